//! `trailgate agent …`, `trailgate person …`, `trailgate service …`

use std::path::PathBuf;

use api::types::{
    AddPrincipal, CredentialView, Minted, PrincipalView, Removed, Rotate as RotateRequest, SshKeyView,
};
use identity::{SshKeyError, SshPublicKey};
use vocabulary::{Name, PrincipalKind};

use super::args::{Principal, PrincipalAdd, Shared};
use super::output::{self, cut, text};
use super::{Failure, terminal};
use crate::client::Client;

pub async fn run(
    shared: &Shared,
    client: &Client,
    kind: PrincipalKind,
    command: Principal,
) -> Result<(), Failure> {
    let path = |name: &Name, rest: &str| format!("/v1/{kind}s/{name}{rest}");
    let nothing = serde_json::json!({});
    match command {
        Principal::Add(add) => minted(shared, &client.post(&format!("/v1/{kind}s"), &request(add)?).await?),
        Principal::List => {
            list(shared, kind, &client.get::<Vec<PrincipalView>>(&format!("/v1/{kind}s")).await?)
        }
        Principal::Show { name } => show(shared, &client.get(&path(&name, "")).await?),
        Principal::Rotate(rotate) => {
            let ssh_keys =
                (!rotate.ssh_keys.is_empty()).then(|| public_keys(&rotate.ssh_keys)).transpose()?;
            let request =
                RotateRequest { grace_s: rotate.grace.unwrap_or(0), expires: rotate.expires, ssh_keys };
            minted(shared, &client.post(&path(&rotate.name, "/rotate"), &request).await?)
        }
        Principal::Disable { name } => {
            let changed: PrincipalView = client.post(&path(&name, "/disable"), &nothing).await?;
            said(shared, &changed, &format!("{kind} {name} is shut out; its open sessions are ending"))
        }
        Principal::Enable { name } => {
            let changed: PrincipalView = client.post(&path(&name, "/enable"), &nothing).await?;
            let still = if changed.disabled { ", but the person it acts for is disabled" } else { "" };
            said(shared, &changed, &format!("{kind} {name} is let in again{still}"))
        }
        Principal::Remove { name } => {
            let removed: Removed = client.delete(&path(&name, "")).await?;
            said(shared, &removed, &format!("{kind} {name} is removed; its entries in the trail stay"))
        }
    }
}

fn request(add: PrincipalAdd) -> Result<AddPrincipal, Failure> {
    Ok(AddPrincipal {
        name: add.name,
        on_behalf_of: add.on_behalf_of,
        groups: add.groups,
        roles: add.roles,
        expires: add.expires,
        ssh_keys: public_keys(&add.ssh_keys)?,
    })
}

/// Read here, in the user's own folder and with the user's rights. A file may have several keys, one a line.
fn public_keys(files: &[PathBuf]) -> Result<Vec<String>, Failure> {
    let mut keys = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))?;
        let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
        for line in lines {
            let key: SshPublicKey = line.parse().map_err(|error: SshKeyError| {
                Failure::new(
                    format!("{}: {error}", path.display()),
                    "`ssh-keygen -t ed25519` makes a key; its public half is in the file that ends in .pub",
                )
            })?;
            keys.push(key.to_string());
            if text.contains("PRIVATE KEY") {
                break;
            }
        }
    }
    Ok(keys)
}

fn said(shared: &Shared, object: &impl serde::Serialize, sentence: &str) -> Result<(), Failure> {
    if shared.json { output::json(object) } else { output::line(sentence) }
}

/// The token goes to standard output alone, so that scripts can take it from there; all else to standard error.
fn minted(shared: &Shared, minted: &Minted) -> Result<(), Failure> {
    if shared.json {
        return output::json(minted);
    }
    let PrincipalView { kind, name, .. } = &minted.principal;
    let ends = minted.expires_at.map(|at| format!(", until {at}")).unwrap_or_default();
    eprintln!("token of {kind} {name}{ends}, shown only this once:");
    output::line(&minted.token)?;
    eprintln!("what to paste where: `trailgate connect {name} TARGET`");
    Ok(())
}

fn list(shared: &Shared, kind: PrincipalKind, principals: &[PrincipalView]) -> Result<(), Failure> {
    if shared.json {
        return principals.iter().try_for_each(output::json);
    }
    if principals.is_empty() {
        eprintln!("there is no {kind} yet; add one with `trailgate {kind} add NAME`");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = principals
        .iter()
        .map(|principal| {
            vec![
                principal.name.to_string(),
                principal.on_behalf_of.as_ref().map(ToString::to_string).unwrap_or_default(),
                joined(&principal.groups),
                joined(&principal.roles),
                state(principal),
            ]
        })
        .collect();
    let header = [text("NAME"), text("FOR"), cut("GROUPS"), text("ROLES"), text("STATE")];
    output::line(&output::table(&header, &rows, terminal::width()))
}

fn show(shared: &Shared, principal: &PrincipalView) -> Result<(), Failure> {
    if shared.json {
        return output::json(principal);
    }
    let credentials: Vec<String> = principal.credentials.iter().map(credential).collect();
    output::line(&output::fields(&[
        ("name", principal.name.to_string()),
        ("id", principal.id.to_string()),
        ("kind", principal.kind.to_string()),
        ("for", principal.on_behalf_of.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("groups", joined(&principal.groups)),
        ("roles", joined(&principal.roles)),
        ("state", state(principal)),
        ("tokens", credentials.join("\n")),
        ("ssh keys", principal.ssh_keys.iter().map(ssh_key).collect::<Vec<_>>().join("\n")),
    ]))
}

fn credential(credential: &CredentialView) -> String {
    let CredentialView { id, state, created_at, expires_at, revoked_at } = credential;
    let expires = expires_at.map(|at| format!(", expires {at}")).unwrap_or_default();
    let revoked = revoked_at.map(|at| format!(", revoked {at}")).unwrap_or_default();
    format!("{id} {state}, minted {created_at}{expires}{revoked}")
}

fn ssh_key(key: &SshKeyView) -> String {
    let expires = key.expires_at.map(|at| format!(", expires {at}")).unwrap_or_default();
    format!("{} {} {}, added {}{expires}", key.id, key.fingerprint, key.state, key.created_at)
}

fn state(principal: &PrincipalView) -> String {
    let active = principal.credentials.iter().filter(|known| known.state == "active").count();
    match (principal.disabled, active) {
        (true, _) => "disabled".to_owned(),
        (false, 0) => "no working token".to_owned(),
        (false, 1) => "active".to_owned(),
        (false, count) => format!("active, {count} tokens"),
    }
}

fn joined<T: std::fmt::Display>(values: &[T]) -> String {
    let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
    texts.join(", ")
}
