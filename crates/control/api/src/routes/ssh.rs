//! `/v1/ssh/certificates`

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use identity::{CredentialState, SshPublicKey};
use serde_json::json;
use vocabulary::{Kind, Timestamp};

use crate::caller::Administrator;
use crate::control::{Control, blocking};
use crate::extract::Body;
use crate::problem::Problem;
use crate::types::{SshCertificate, SshCertify};

/// How long a certificate is valid unless asked otherwise, and at most, in seconds.
const DEFAULT_LIFETIME_S: u64 = 12 * 60 * 60;
const MAX_LIFETIME_S: u64 = 90 * 24 * 60 * 60;

pub(super) async fn certify(
    Administrator(caller): Administrator,
    State(control): State<Control>,
    Body(request): Body<SshCertify>,
) -> Result<(StatusCode, Json<SshCertificate>), Problem> {
    let key: SshPublicKey = request.public_key.parse().map_err(|error: identity::SshKeyError| {
        Problem::from_sentence(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string())
    })?;
    let now = Timestamp::now();
    let snapshot = control.gatehouse.snapshot();
    let principal = snapshot.principals.get(&request.principal).ok_or_else(|| {
        Problem::not_found(
            format!("there is no agent, person or service `{}`", request.principal),
            format!("add it first: `trailgate agent add {}`", request.principal),
        )
    })?;
    let credential = principal.credentials.iter().find(|known| known.state(now) == CredentialState::Active);
    let (Some(credential), false) = (credential, principal.disabled) else {
        return Err(Problem::conflict(
            format!("{} `{}` is shut out, or has no working token", principal.kind, principal.name),
            "a certificate hangs on a token and works as long as it: mint one with `rotate`",
        ));
    };
    let asked = request.lifetime_s.unwrap_or(DEFAULT_LIFETIME_S).clamp(1, MAX_LIFETIME_S);
    let left = credential.ends_at().map(|end| end.micros_since(now) / 1_000_000);
    let lifetime_s = left.map_or(asked, |left| left.min(asked));
    let expires_at = Timestamp(now.0.saturating_add(lifetime_s.saturating_mul(1_000_000)));
    let what = json!({
        "subject": "ssh.certificate",
        "action": "add",
        "name": principal.name,
        "credential": credential.id,
        "fingerprint": key.fingerprint(),
        "expires_at": expires_at,
    });
    let (name, credential) = (principal.name.clone(), credential.id);
    let made = blocking(move || {
        let authority = control.ssh.as_ref().ok_or_else(|| {
            Problem::conflict("the gateway has no listener for SSH clients", "set ssh.listen in its settings")
        })?;
        let certificate = authority
            .certify(&name, credential, &key, Duration::from_secs(lifetime_s))
            .map_err(|sentence| Problem::from_sentence(StatusCode::UNPROCESSABLE_ENTITY, &sentence))?;
        // The certificate is handed out only once the trail has it.
        control.note(Kind::ControlChanged, &caller, &what).map_err(Problem::unrecorded)?;
        Ok(SshCertificate { principal: name, credential, certificate, expires_at })
    });
    Ok((StatusCode::CREATED, Json(made.await?)))
}
