//! The client proves who it is.

use identity::scram::{ChannelBinding, Mechanism, Nonce, ScramError, ScramServer};
use identity::{Login, REFUSED, Rejected};
use session::{Door, PasswordExchange};
use tokio::io::AsyncWriteExt;
use vocabulary::{ProvenBy, Timestamp, Who};

use super::TurnedAway;
use crate::stream::Stream;
use crate::stream::inbox::Inbox;
use crate::wire::auth::{self, MAX_PASSWORD_LEN, SaslInitialResponse};
use crate::wire::error_response::Report;

/// How the client shows its token on this connection.
pub(super) fn exchange(
    door: &Door,
    stream: &Stream,
    wanted: Option<&[u8]>,
) -> Result<PasswordExchange, TurnedAway> {
    let tls = stream.is_tls();
    match wanted {
        // Outside TLS never, whatever the listener's setting.
        None if !tls => Ok(PasswordExchange::ScramSha256),
        None => Ok(door.listener().password),
        Some(b"scram-sha-256") => Ok(PasswordExchange::ScramSha256),
        Some(b"cleartext") if tls => Ok(PasswordExchange::Cleartext),
        Some(b"cleartext") => Err(TurnedAway::refused(Report::fatal(
            "28000",
            "trailgate.auth=cleartext needs TLS, so that nobody reads the token on its way; set sslmode=require",
        ))),
        Some(_) => {
            Err(TurnedAway::refused(Report::fatal("22023", "trailgate.auth is cleartext or scram-sha-256")))
        }
    }
}

/// Runs the exchange to its end. On success AuthenticationOk is in `out` and not sent yet. `out` may hold bytes that
/// have to go first.
pub(super) async fn prove(
    stream: &mut Stream,
    inbox: &mut Inbox,
    out: &mut Vec<u8>,
    door: &Door,
    claimed: &str,
    exchange: PasswordExchange,
) -> Result<Who, TurnedAway> {
    door.may_try(claimed).map_err(|rejected| turn_away(door, claimed, &rejected))?;
    match exchange {
        PasswordExchange::ScramSha256 => scram(stream, inbox, out, door, claimed).await,
        PasswordExchange::Cleartext => cleartext(stream, inbox, out, door, claimed).await,
    }
}

async fn cleartext(
    stream: &mut Stream,
    inbox: &mut Inbox,
    out: &mut Vec<u8>,
    door: &Door,
    claimed: &str,
) -> Result<Who, TurnedAway> {
    auth::put_cleartext_password(out);
    send(stream, out).await?;
    let message = answer(stream, inbox).await?;
    let token = auth::parse_password(&message)
        .map_err(|_| TurnedAway::protocol("the password message is malformed"))?;
    let principal = door.principal(claimed);
    let login = Login { principal: principal.as_deref(), now: Timestamp::now() };
    let who = login.by_token(token, ProvenBy::TokenInTls);
    let who = who.map_err(|rejected| turn_away(door, claimed, &rejected))?;
    auth::put_ok(out);
    Ok(who)
}

async fn scram(
    stream: &mut Stream,
    inbox: &mut Inbox,
    out: &mut Vec<u8>,
    door: &Door,
    claimed: &str,
) -> Result<Who, TurnedAway> {
    let listener = door.listener();
    let binding = listener.tls.as_ref().filter(|tls| stream.is_tls() && !tls.end_point.is_empty());
    let binding = binding.map(|tls| ChannelBinding::from_bytes(tls.end_point.clone()));
    let principal = door.principal(claimed);
    let login = |now| Login { principal: principal.as_deref(), now };
    let failed = |error: ScramError| {
        let protocol = error.is_protocol_violation().then(|| error.to_string());
        let turned_away = turn_away(door, claimed, &login(Timestamp::now()).without_proof(error));
        protocol.map_or(turned_away, |reason| TurnedAway::protocol(&reason))
    };
    let server = ScramServer::new(principal.as_deref(), claimed.as_bytes(), &listener.decoy, binding);
    auth::put_sasl(out, server.mechanisms().iter().map(|mechanism| mechanism.as_str()));
    send(stream, out).await?;

    let first = answer(stream, inbox).await?;
    let malformed = || failed(ScramError::Malformed("the SASLInitialResponse message is malformed"));
    let first = SaslInitialResponse::parse(&first).map_err(|_| malformed())?;
    let mechanism = Mechanism::from_name(first.mechanism).ok_or_else(|| failed(ScramError::Mechanism))?;
    let data = first.data.ok_or_else(malformed)?;
    let nonce = Nonce::random().ok_or_else(|| {
        TurnedAway::refused(Report::fatal("58000", "the gateway's system has no random numbers to give"))
    })?;
    let challenge = server.challenge(mechanism, data, &nonce).map_err(failed)?;
    auth::put_sasl_continue(out, challenge.message());
    send(stream, out).await?;

    let last = answer(stream, inbox).await?;
    let proof = challenge.verify(&last).map_err(failed)?;
    let who =
        login(Timestamp::now()).by_proof(&proof).map_err(|rejected| turn_away(door, claimed, &rejected))?;
    auth::put_sasl_final(out, proof.message());
    auth::put_ok(out);
    Ok(who)
}

/// Records a failed login with its real reason, and makes what the client hears of it.
fn turn_away(door: &Door, claimed: &str, rejected: &Rejected) -> TurnedAway {
    if let Err(error) = door.failed(claimed, rejected) {
        tracing::error!(%error, "a failed login could not be recorded");
    }
    let report = match rejected {
        // Says nothing of the name: whoever guesses is slowed down alike.
        Rejected::Throttled(throttled) => Report::fatal("28000", format!("Trailgate: {throttled}")),
        _ => Report::fatal("28P01", REFUSED),
    };
    TurnedAway::refused(report)
}

/// The body of the client's next message, which has to be a `p`.
async fn answer(stream: &mut Stream, inbox: &mut Inbox) -> Result<Vec<u8>, TurnedAway> {
    let message = inbox.message(stream, MAX_PASSWORD_LEN).await?;
    match message.tag {
        b'p' => Ok(message.body().to_vec()),
        // A client that asks its user for the password first says goodbye here, and comes back.
        b'X' => Err(TurnedAway::Gone),
        _ => Err(TurnedAway::protocol("expected a password or SASL response")),
    }
}

pub(super) async fn send(stream: &mut Stream, out: &mut Vec<u8>) -> Result<(), TurnedAway> {
    let sent = async {
        stream.write_all(out).await?;
        stream.flush().await
    };
    sent.await.map_err(TurnedAway::Broken)?;
    out.clear();
    Ok(())
}
