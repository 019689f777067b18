//! `/v1/agents`, `/v1/persons`, `/v1/services`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{MethodRouter, get, post};
use identity::SshPublicKey;
use store::{Expiry, NewPrincipal, StoreError};
use vocabulary::{Name, PrincipalKind, Timestamp};

use crate::caller::{Administrator, Caller, Insider};
use crate::control::{Control, refused};
use crate::extract::{Body, Named};
use crate::problem::Problem;
use crate::types::{AddPrincipal, Minted, PrincipalView, Removed, Rotate};

/// Every kind, each with routes of its own.
pub(super) const KINDS: [PrincipalKind; 3] =
    [PrincipalKind::Agent, PrincipalKind::Person, PrincipalKind::Service];

pub(super) fn collection(kind: PrincipalKind) -> MethodRouter<Control> {
    get(move |_: Insider, State(control): State<Control>| async move { Json(all(&control, kind)) }).post(
        move |Administrator(caller): Administrator,
              State(control): State<Control>,
              Body(request): Body<AddPrincipal>| add(kind, caller, control, request),
    )
}

pub(super) fn one(kind: PrincipalKind) -> MethodRouter<Control> {
    get(move |_: Insider, State(control): State<Control>, Named(name): Named<Name>| async move {
        view(&control, kind, &name).map(Json)
    })
    .delete(
        move |Administrator(caller): Administrator,
              State(control): State<Control>,
              Named(name): Named<Name>| { remove(kind, caller, control, name) },
    )
}

pub(super) fn rotate(kind: PrincipalKind) -> MethodRouter<Control> {
    post(
        move |Administrator(caller): Administrator,
              State(control): State<Control>,
              Named(name): Named<Name>,
              Body(request): Body<Rotate>| mint_anew(kind, caller, control, name, request),
    )
}

pub(super) fn set_disabled(kind: PrincipalKind, disabled: bool) -> MethodRouter<Control> {
    post(
        move |Administrator(caller): Administrator,
              State(control): State<Control>,
              Named(name): Named<Name>| async move {
            let changed = name.clone();
            control.change(&caller, move |edit| edit.set_disabled(kind, &changed, disabled)).await?;
            view(&control, kind, &name).map(Json)
        },
    )
}

async fn add(
    kind: PrincipalKind,
    caller: Caller,
    control: Control,
    request: AddPrincipal,
) -> Result<(StatusCode, Json<Minted>), Problem> {
    let AddPrincipal { name, on_behalf_of, groups, roles, expires, ssh_keys } = request;
    if name == Name::local_administrator() {
        return Err(Problem::conflict(
            format!("the name `{name}` stands for whoever may open the control socket"),
            "choose another name",
        ));
    }
    let expires_at = moment(kind, expires.as_deref())?;
    let ssh_keys = public_keys(&ssh_keys)?;
    let principal =
        NewPrincipal { kind, name: name.clone(), on_behalf_of, groups, roles, expires_at, ssh_keys };
    let minted = control.change(&caller, move |edit| edit.add_principal(&principal)).await?;
    Ok((StatusCode::CREATED, Json(shown(&control, kind, &name, &minted)?)))
}

async fn mint_anew(
    kind: PrincipalKind,
    caller: Caller,
    control: Control,
    name: Name,
    request: Rotate,
) -> Result<Json<Minted>, Problem> {
    let expires_at = moment(kind, request.expires.as_deref())?;
    let grace_us = request.grace_s.min(MAX_GRACE_S).saturating_mul(1_000_000);
    let old_until = Timestamp(Timestamp::now().0.saturating_add(grace_us));
    let changed = name.clone();
    let ssh_keys = request.ssh_keys.as_deref().map(public_keys).transpose()?;
    let work = move |edit: &mut dyn store::Edit| {
        if let Some(keys) = &ssh_keys {
            edit.set_ssh_keys(kind, &changed, keys, expires_at)?;
        }
        edit.rotate(kind, &changed, expires_at, old_until)
    };
    let minted = control.change(&caller, work).await?;
    Ok(Json(shown(&control, kind, &name, &minted)?))
}

/// Longest time that old tokens go on, in seconds: a year.
const MAX_GRACE_S: u64 = 365 * 24 * 60 * 60;

async fn remove(
    kind: PrincipalKind,
    caller: Caller,
    control: Control,
    name: Name,
) -> Result<Json<Removed>, Problem> {
    let gone = name.clone();
    control.change(&caller, move |edit| edit.remove_principal(kind, &gone)).await?;
    Ok(Json(Removed { name }))
}

fn all(control: &Control, kind: PrincipalKind) -> Vec<PrincipalView> {
    let now = Timestamp::now();
    let snapshot = control.gatehouse.snapshot();
    let found = snapshot.principals.values().filter(|principal| principal.kind == kind);
    let mut principals: Vec<PrincipalView> =
        found.map(|principal| PrincipalView::of(principal, now)).collect();
    principals.sort_by(|one, other| one.name.cmp(&other.name));
    principals
}

fn view(control: &Control, kind: PrincipalKind, name: &Name) -> Result<PrincipalView, Problem> {
    match control.gatehouse.snapshot().principals.get(name) {
        Some(found) if found.kind == kind => Ok(PrincipalView::of(found, Timestamp::now())),
        Some(found) => {
            Err(refused(&StoreError::OtherKind { name: name.clone(), asked: kind, found: found.kind }))
        }
        None => Err(refused(&StoreError::NoPrincipal { kind, name: name.clone() })),
    }
}

fn shown(
    control: &Control,
    kind: PrincipalKind,
    name: &Name,
    minted: &store::Minted,
) -> Result<Minted, Problem> {
    Ok(Minted {
        principal: view(control, kind, name)?,
        credential: minted.credential,
        expires_at: minted.expires_at,
        token: minted.token.expose().to_owned(),
    })
}

fn public_keys(texts: &[String]) -> Result<Vec<SshPublicKey>, Problem> {
    let read = |text: &String| {
        text.parse().map_err(|error: identity::SshKeyError| {
            Problem::from_sentence(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string())
        })
    };
    texts.iter().map(read).collect()
}

fn moment(kind: PrincipalKind, expires: Option<&str>) -> Result<Option<Timestamp>, Problem> {
    let expiry = match expires {
        Some(text) => text.parse().map_err(|error: store::expiry::ExpiryError| {
            Problem::from_sentence(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string())
        })?,
        None => Expiry::default_of(kind),
    };
    Ok(expiry.moment(Timestamp::now()))
}
