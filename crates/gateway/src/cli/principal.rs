//! `trailgate agent …`, `trailgate person …`, `trailgate service …`

use api::types::{AddPrincipal, CredentialView, Minted, PrincipalView, Removed, Rotate as RotateRequest};
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
        Principal::Add(add) => minted(shared, &client.post(&format!("/v1/{kind}s"), &request(add)).await?),
        Principal::List => {
            list(shared, kind, &client.get::<Vec<PrincipalView>>(&format!("/v1/{kind}s")).await?)
        }
        Principal::Show { name } => show(shared, &client.get(&path(&name, "")).await?),
        Principal::Rotate(rotate) => {
            let request = RotateRequest { grace_s: rotate.grace.unwrap_or(0), expires: rotate.expires };
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

fn request(add: PrincipalAdd) -> AddPrincipal {
    AddPrincipal {
        name: add.name,
        on_behalf_of: add.on_behalf_of,
        groups: add.groups,
        roles: add.roles,
        expires: add.expires,
    }
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
    ]))
}

fn credential(credential: &CredentialView) -> String {
    let CredentialView { id, state, created_at, expires_at, revoked_at } = credential;
    let expires = expires_at.map(|at| format!(", expires {at}")).unwrap_or_default();
    let revoked = revoked_at.map(|at| format!(", revoked {at}")).unwrap_or_default();
    format!("{id} {state}, minted {created_at}{expires}{revoked}")
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
