//! `/reviews/ID`: where people answer, without any script.
//!
//! The link alone shows nothing and approves nothing: the reader types a token first. What the page gives back with an
//! answer is a *ticket*: who, which review, until when, signed by this run of the gateway. There is no cookie, so no
//! other site can answer in the reader's name.

use std::fmt::Write as _;

use aws_lc_rs::hmac;
use axum::Form;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use identity::{CredentialState, Role};
use review::{Ballot, Review};
use serde::Deserialize;
use vocabulary::{ClientInfo, CredentialId, PrincipalKind, ProvenBy, ReviewId, Timestamp, Who};

use super::reviews;
use crate::caller::{Caller, Peer, web_client};
use crate::control::{Control, blocking};
use crate::extract::Named;
use crate::problem::Problem;

/// How long a ticket is good.
const TICKET_FOR_US: u64 = 10 * 60 * 1_000_000;

/// What a form gives back.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Answer {
    token: String,
    ticket: String,
    action: String,
    note: String,
}

/// What the link says.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Link {
    answer: String,
}

/// The page that the link leads to: it asks who is there.
pub(super) async fn ask(Named(id): Named<ReviewId>, Query(link): Query<Link>) -> Response {
    let what = match link.answer.as_str() {
        "approve" => "To see the command and approve it",
        "deny" => "To see the command and deny it",
        _ => "To see the command",
    };
    page(StatusCode::OK, &format!("{}<p>{what}, say who you are.</p>{}", heading(id), sign_in(id)))
}

/// Whoever is there sees the command, or answers.
pub(super) async fn answer(
    Named(id): Named<ReviewId>,
    State(control): State<Control>,
    headers: HeaderMap,
    axum::Extension(peer): axum::Extension<Peer>,
    Form(form): Form<Answer>,
) -> Response {
    let done = blocking(move || answer_now(&control, id, &headers, &peer, form)).await;
    match done {
        Ok(body) => page(StatusCode::OK, &body),
        Err(problem) => {
            let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let said = format!(
                "{}<p class=bad>{}</p><p>{}</p>{}",
                heading(id),
                escaped(&problem.detail),
                escaped(&problem.advice),
                sign_in(id)
            );
            page(status, &said)
        }
    }
}

fn answer_now(
    control: &Control,
    id: ReviewId,
    headers: &HeaderMap,
    peer: &Peer,
    form: Answer,
) -> Result<String, Problem> {
    if headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site") {
        return Err(Problem::forbidden(
            "this answer comes from another site",
            "answer on the gateway's own page",
        ));
    }
    let Peer::Web { address, tls } = peer else {
        return Err(Problem::bad_request(
            "the page is for browsers",
            "use `trailgate review approve` on this socket",
        ));
    };
    let application = headers
        .get(header::USER_AGENT)
        .and_then(|value| value.to_str().ok())
        .map(|text| text.chars().take(128).collect());
    let client = web_client(*address, *tls, application);
    let caller = if form.ticket.is_empty() {
        Caller::by_token(control, form.token.trim().as_bytes(), client)?
    } else {
        by_ticket(control, id, &form.ticket, client)?
    };
    reviews::admit(&caller)?;
    let approve = match form.action.as_str() {
        "approve" => true,
        "deny" => false,
        _ => {
            let review = reviews::find(control, &caller, id)?;
            return Ok(whole(control, &caller, &review, ""));
        }
    };
    // A token that was typed on the first page is no look at the command.
    if form.ticket.is_empty() {
        return Err(Problem::bad_request("look at the command first", "open the review, then answer"));
    }
    let note = Some(form.note).filter(|note| !note.trim().is_empty());
    match control.answer(&caller, id, &Ballot { approve, note }) {
        Ok((review, step)) => {
            let said = match step {
                review::Step::Granted => "Approved. The command may run now.",
                review::Step::Denied => "Denied.",
                review::Step::Counted => "Your approval counts; others are still needed.",
            };
            Ok(whole(control, &caller, &review, &format!("<p class=good>{said}</p>")))
        }
        Err(problem) => {
            let review = reviews::find(control, &caller, id)?;
            let said = format!("<p class=bad>{}. {}</p>", escaped(&problem.detail), escaped(&problem.advice));
            Ok(whole(control, &caller, &review, &said))
        }
    }
}

/// Who was shown the page, if that is not long ago and they may still come in.
fn by_ticket(control: &Control, id: ReviewId, ticket: &str, client: ClientInfo) -> Result<Caller, Problem> {
    let stale =
        || Problem::new(StatusCode::UNAUTHORIZED, "this page was open for too long", "say again who you are");
    let (body, tag) = ticket.rsplit_once('.').ok_or_else(stale)?;
    let tag = unhex(tag).ok_or_else(stale)?;
    let signed = [body, "/", &id.to_string()].concat();
    if !control.tickets_work || hmac::verify(&control.tickets, signed.as_bytes(), &tag).is_err() {
        return Err(stale());
    }
    let (credential, until) = body.split_once('.').ok_or_else(stale)?;
    let credential: CredentialId = credential.parse().map_err(|_| stale())?;
    let until: u64 = until.parse().map_err(|_| stale())?;
    let now = Timestamp::now();
    if now.0 > until {
        return Err(stale());
    }
    let snapshot = control.gatehouse.snapshot();
    let holder = snapshot.principals.values().find(|principal| {
        !principal.disabled
            && principal
                .credentials
                .iter()
                .any(|known| known.id == credential && known.state(now) == CredentialState::Active)
    });
    let found = holder.ok_or_else(stale)?;
    let person = found.kind == PrincipalKind::Person;
    let who = Who {
        id: found.id,
        kind: found.kind,
        name: found.name.clone(),
        on_behalf_of: found.on_behalf_of.clone(),
        credential,
        proven_by: ProvenBy::Bearer,
    };
    Ok(Caller {
        who,
        client,
        administers: person && found.has_role(Role::Administrator),
        audits: person && found.has_role(Role::Auditor),
        reviews: person && found.has_role(Role::Reviewer),
        groups: found.groups.clone(),
        is_local: false,
    })
}

fn ticket(control: &Control, caller: &Caller, id: ReviewId) -> String {
    let until = Timestamp::now().0.saturating_add(TICKET_FOR_US);
    let body = format!("{}.{until}", caller.who.credential);
    let tag = hmac::sign(&control.tickets, [&body, "/", &id.to_string()].concat().as_bytes());
    let tag = tag.as_ref().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    format!("{body}.{tag}")
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// Everything that somebody needs to decide, and the two buttons.
fn whole(control: &Control, caller: &Caller, review: &Review, said: &str) -> String {
    let view = control.view(review);
    let mut body = heading(review.id);
    body.push_str(said);
    body.push_str("<table>");
    let mut row = |name: &str, value: &str| {
        let _ = write!(body, "<tr><th>{name}</th><td>{}</td></tr>", escaped(value));
    };
    rows(&mut row, &view);
    body.push_str("</table>");
    let _ = write!(body, "<h2>The exact command</h2><pre>{}</pre>", visible(&view.command));
    if !view.params.is_empty() {
        body.push_str("<h2>Its parameters</h2><ol>");
        for value in &view.params {
            let shown = value
                .as_deref()
                .map_or_else(|| "<i>NULL</i>".to_owned(), |text| format!("<code>{}</code>", visible(text)));
            let _ = write!(body, "<li>{shown}</li>");
        }
        body.push_str("</ol>");
    }
    for vote in &view.votes {
        let how = if vote.approve { "approved" } else { "denied" };
        let note = vote.note.as_deref().map(|note| format!(": {}", escaped(note))).unwrap_or_default();
        let _ = write!(body, "<p>{} {how} at {}{note}</p>", escaped(vote.by.as_str()), vote.at);
    }
    if view.state == "pending" {
        let required = if view.note_required { " required" } else { "" };
        let _ = write!(
            body,
            "<form method=post action=\"/reviews/{}\"><input type=hidden name=ticket value=\"{}\">\
             <p><label>Note <input name=note maxlength=4096 size=60{required}></label></p>\
             <p><button name=action value=approve>Approve</button> \
             <button name=action value=deny formnovalidate>Deny</button></p></form>",
            review.id,
            ticket(control, caller, review.id)
        );
    }
    body
}

fn rows(row: &mut impl FnMut(&str, &str), view: &crate::types::ReviewView) {
    let who = match &view.on_behalf_of {
        Some(person) => format!("{} {}, for {person}", view.principal_kind, view.principal),
        None => format!("{} {}", view.principal_kind, view.principal),
    };
    row(
        "State",
        &if view.held { format!("{}, and the client is waiting", view.state) } else { view.state.clone() },
    );
    row("Who", &who);
    row("From", &format!("{} {}", view.client, view.application.as_deref().unwrap_or("")));
    if let Some(task) = &view.task {
        row("Task", task);
    }
    row("Target", &format!("{} ({})", view.target, view.target_kind));
    for (name, value) in &view.circumstances {
        row(name, value);
    }
    row("Class", &format!("{} ({})", view.class, view.verb));
    row("Objects", &view.objects.join(", "));
    row("Why", &view.reason);
    row("Policies", &view.policies.join(", "));
    let missing: Vec<String> =
        view.missing.iter().map(|(group, count)| format!("{count} of {group}")).collect();
    row("Still needed", &missing.join(", "));
    row("Asked at", &view.requested_at.to_string());
    row("Open until", &view.open_until.to_string());
}

fn heading(id: ReviewId) -> String {
    format!("<h1>Review <code>{id}</code></h1>")
}

fn sign_in(id: ReviewId) -> String {
    format!(
        "<form method=post action=\"/reviews/{id}\"><p><label>Your token \
         <input type=password name=token autocomplete=current-password required size=60></label></p>\
         <p><button name=action value=show>Show the command</button></p></form>"
    )
}

/// Text for HTML.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            _ => safe.push(c),
        }
    }
    safe
}

/// Text for HTML in which nothing hides: control characters, and those that reorder or join text, are written out.
fn visible(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        let hidden = matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}');
        if hidden || (c.is_control() && !matches!(c, '\n' | '\t')) {
            let _ = write!(safe, "<b class=odd>U+{:04X}</b>", u32::from(c));
        } else {
            safe.push_str(&escaped(c.encode_utf8(&mut [0; 4])));
        }
    }
    safe
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
pre{background:#f4f4f4;padding:1rem;white-space:pre-wrap;overflow-wrap:anywhere}th{text-align:left;padding-right:1rem;vertical-align:top}\
.good{background:#dfd;padding:.5rem}.bad{background:#fdd;padding:.5rem}.odd{background:#fc6}button{font:inherit;padding:.4rem 1rem}";

fn page(status: StatusCode, body: &str) -> Response {
    let text = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>Trailgate review</title><style>{STYLE}</style><body>{body}"
    );
    let mut response = (status, Html(text)).into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_command_hides_or_becomes_markup() {
        assert_eq!(
            visible("a<b>\u{202e}c\u{0}"),
            "a&lt;b&gt;<b class=odd>U+202E</b>c<b class=odd>U+0000</b>"
        );
        assert_eq!(visible("SELECT 1;\n\t-- x"), "SELECT 1;\n\t-- x");
    }
}
