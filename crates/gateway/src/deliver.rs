//! Tells webhooks of reviews: signed, tried again until it works or a day has passed, across restarts.
//!
//! A body is signed over the moment and itself: `Trailgate-Signature: t=UNIX_SECONDS,v1=HEX`, where HEX is HMAC-SHA256
//! over `UNIX_SECONDS.BODY`. The receiver checks both, so that a body can't be sent again much later.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use api::reviews::Message;
use aws_lc_rs::hmac;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::{Request, Uri, header};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use store::{Delivered, Delivery};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use vocabulary::Timestamp;

use crate::cli::Failure;
use crate::settings::{Webhook, WebhookFormat};

/// How often it is looked whether something is to be told.
const GLANCE: Duration = Duration::from_millis(250);

/// How long one attempt may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// The first pause after a failure; it doubles each time.
const FIRST_PAUSE_US: u64 = 1_000_000;

/// The longest pause.
const LONGEST_PAUSE_US: u64 = 5 * 60 * 1_000_000;

/// After which time a message is given up.
const GIVE_UP_AFTER_US: u64 = 24 * 60 * 60 * 1_000_000;

/// Longest answer that is read, in bytes: only its status counts.
const MAX_ANSWER: usize = 64 << 10;

/// Longest text of one part of a chat message, as it is sent, without the marks around it. Slack refuses a message with
/// more than 3,000 characters in one. The page has all of it.
const MAX_CHAT_TEXT: usize = 2_900;

/// Somebody who hears of reviews, ready to be told.
struct Receiver {
    url: Uri,
    key: Option<hmac::Key>,
    format: WebhookFormat,
}

/// Tells webhooks of reviews.
pub struct Messenger {
    receivers: BTreeMap<String, Receiver>,
    tls: Arc<ClientConfig>,
}

impl Messenger {
    /// For these webhooks.
    ///
    /// # Errors
    /// [`Failure`] if a URL or a secret can't be used.
    pub fn new(webhooks: &BTreeMap<String, Webhook>) -> Result<Self, Failure> {
        let receivers = webhooks.iter().map(|(name, webhook)| Ok((name.clone(), receiver(name, webhook)?)));
        let receivers = receivers.collect::<Result<_, Failure>>()?;
        let mut roots = RootCertStore::empty();
        let (_, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let tls =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|error| Failure::new(format!("TLS can't be set up: {error}"), "please report this"))?
                .with_root_certificates(roots)
                .with_no_client_auth();
        Ok(Self { receivers, tls: Arc::new(tls) })
    }

    /// Tells what is due, until it is dropped. Each receiver at its own pace: one that hangs keeps no other waiting.
    pub async fn run(&self, control: &api::Control) {
        let mut tick = tokio::time::interval(GLANCE);
        let mut under_way = UnderWay::default();
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                (id, outcome) = under_way.next() => {
                    let control = control.clone();
                    let noted = tokio::task::spawn_blocking(move || control.message_told(id, &outcome)).await;
                    if let Ok(Err(error)) = noted {
                        tracing::error!(%error, "what came of a message about a review can't be stored");
                    }
                    continue;
                }
            }
            if self.receivers.is_empty() {
                continue;
            }
            let asked = control.clone();
            let due = tokio::task::spawn_blocking(move || asked.due_messages()).await;
            let due = match due {
                Ok(Ok(due)) => due,
                Ok(Err(error)) => {
                    tracing::error!(%error, "messages about reviews can't be read");
                    continue;
                }
                Err(_) => return,
            };
            for (delivery, message) in due {
                // What is under way stays due until it is known what came of it.
                if !under_way.has(delivery.id) {
                    let id = delivery.id;
                    under_way.add(id, Box::pin(async move { self.tell(&delivery, message).await }));
                }
            }
        }
    }

    async fn tell(&self, delivery: &Delivery, message: Option<Message>) -> Delivered {
        let (Some(message), Some(receiver)) = (message, self.receivers.get(&delivery.webhook)) else {
            return Delivered::Never {
                problem: "the review or the webhook is not there any more".to_owned(),
            };
        };
        let body = match receiver.format {
            WebhookFormat::Json => json!({
                "delivery": delivery.id, "event": message.event, "node": message.node, "at": message.at, "review": message.review,
            }),
            WebhookFormat::Slack => slack(&message),
        };
        let sent = tokio::time::timeout(DEADLINE, self.send(receiver, delivery, body.to_string())).await;
        let problem = match sent {
            Ok(Ok(())) => return Delivered::Yes,
            Ok(Err(problem)) => problem,
            Err(_) => format!("no answer within {} s", DEADLINE.as_secs()),
        };
        let now = Timestamp::now();
        tracing::warn!(webhook = delivery.webhook, review = %delivery.review, problem, "a message about a review was not taken");
        if now.micros_since(delivery.created_at) > GIVE_UP_AFTER_US {
            return Delivered::Never { problem };
        }
        let pause = FIRST_PAUSE_US.saturating_mul(1 << delivery.attempts.min(20)).min(LONGEST_PAUSE_US);
        Delivered::Later { at: Timestamp(now.0.saturating_add(pause)), problem }
    }

    async fn send(&self, receiver: &Receiver, delivery: &Delivery, body: String) -> Result<(), String> {
        let said = |error: &dyn std::fmt::Display| error.to_string();
        let host = receiver.url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let tls = receiver.url.scheme_str() == Some("https");
        let port = receiver.url.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let stream = TcpStream::connect((host.as_str(), port)).await.map_err(|error| said(&error))?;
        stream.set_nodelay(true).map_err(|error| said(&error))?;
        let at = Timestamp::now().unix_ms() / 1000;
        let path = receiver.url.path_and_query().map_or("/", hyper::http::uri::PathAndQuery::as_str);
        let authority = receiver.url.authority().map_or(host.as_str(), hyper::http::uri::Authority::as_str);
        let mut request = Request::post(path)
            .header(header::HOST, authority)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("trailgate/", env!("CARGO_PKG_VERSION")))
            .header("trailgate-delivery", delivery.id.to_string());
        if let Some(key) = &receiver.key {
            request = request.header("trailgate-signature", signature(key, at, &body));
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|error| said(&error))?;
        if tls {
            let name = ServerName::try_from(host).map_err(|error| said(&error))?;
            let stream = TlsConnector::from(Arc::clone(&self.tls))
                .connect(name, stream)
                .await
                .map_err(|error| said(&error))?;
            exchange(stream, request).await
        } else {
            exchange(stream, request).await
        }
    }
}

/// What is being told now, by the number of the delivery. The store hands out a few for each receiver at once, which
/// bounds it.
#[derive(Default)]
struct UnderWay<'a>(Vec<(i64, Telling<'a>)>);

/// One receiver is being told of one decision.
type Telling<'a> = Pin<Box<dyn Future<Output = Delivered> + 'a>>;

impl<'a> UnderWay<'a> {
    fn has(&self, id: i64) -> bool {
        self.0.iter().any(|(known, _)| *known == id)
    }

    fn add(&mut self, id: i64, telling: Telling<'a>) {
        self.0.push((id, telling));
    }

    /// Waits for the next that comes to an end, for ever if there is none.
    async fn next(&mut self) -> (i64, Delivered) {
        std::future::poll_fn(|cx| {
            for (place, (id, telling)) in self.0.iter_mut().enumerate() {
                if let Poll::Ready(outcome) = telling.as_mut().poll(cx) {
                    let id = *id;
                    drop(self.0.swap_remove(place));
                    return Poll::Ready((id, outcome));
                }
            }
            Poll::Pending
        })
        .await
    }
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let said = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(said)?;
    let asked = async move {
        let response = sender.send_request(request).await.map_err(said)?;
        let status = response.status();
        let _ = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        if status.is_success() { Ok(()) } else { Err(format!("it answered {status}")) }
    };
    // Both belong to this future; nothing goes on behind its back.
    let mut connection = std::pin::pin!(connection);
    let mut asked = std::pin::pin!(asked);
    tokio::select! {
        answer = &mut asked => answer,
        ended = &mut connection => match ended {
            Ok(()) => asked.await,
            Err(error) => Err(error.to_string()),
        },
    }
}

fn signature(key: &hmac::Key, at: u64, body: &str) -> String {
    let tag = hmac::sign(key, format!("{at}.{body}").as_bytes());
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={at},v1={hex}")
}

/// A message as Slack's incoming webhooks take it: text, and buttons that lead to the gateway's page.
fn slack(message: &Message) -> Value {
    let review = &message.review;
    let who = match &review.on_behalf_of {
        Some(person) => format!("{} (for {person})", review.principal),
        None => review.principal.to_string(),
    };
    let (command, whole) = escaped(&review.command);
    let more = if whole { "" } else { "\n… the page shows all of it" };
    let text = match message.event.as_str() {
        "review.requested" => format!("{who} wants to run a command on {}: {}", review.target, review.reason),
        _ => format!("Review {} is {}: {who} on {}", review.id, review.state, review.target),
    };
    let (mut text, whole) = escaped(&text);
    if !whole {
        text.push('…');
    }
    let mut blocks = vec![
        json!({ "type": "section", "text": { "type": "mrkdwn", "text": text } }),
        json!({ "type": "section", "text": { "type": "mrkdwn", "text": format!("```{}{more}```", command.replace("```", "'''")) } }),
    ];
    if let (true, Some(url)) = (review.state == "pending", &review.url) {
        let button = |label: &str, style: &str, answer: &str| json!({ "type": "button", "style": style, "text": { "type": "plain_text", "text": label }, "url": format!("{url}?answer={answer}") });
        blocks.push(json!({
            "type": "actions",
            "elements": [button("Approve", "primary", "approve"), button("Deny", "danger", "deny")],
        }));
    }
    json!({ "text": text, "blocks": blocks })
}

/// As much of a text as one part of a message takes, without the three characters that Slack reads as markup; and whether
/// that is all of it. What they become counts, so that no text is too long once it is written.
fn escaped(text: &str) -> (String, bool) {
    let mut written = String::new();
    let mut length = 0;
    let mut bytes = [0; 4];
    for letter in text.chars() {
        let piece = match letter {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            _ => &*letter.encode_utf8(&mut bytes),
        };
        // What is one character here may be two there: in UTF-16.
        length += piece.chars().map(char::len_utf16).sum::<usize>();
        if length > MAX_CHAT_TEXT {
            return (written, false);
        }
        written.push_str(piece);
    }
    (written, true)
}

fn receiver(name: &str, webhook: &Webhook) -> Result<Receiver, Failure> {
    let wrong = |what: &str| {
        Failure::new(
            format!("review.webhook.{name}: {what}"),
            "correct the settings file, and start the gateway again",
        )
    };
    let text = match webhook.url.split_once(':') {
        Some(("env" | "file", _)) => secret(&webhook.url).map_err(|what| wrong(&what))?,
        _ => webhook.url.clone(),
    };
    let url: Uri = text.trim().parse().map_err(|_| wrong("its url is none"))?;
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match url.scheme_str() {
        Some("https") if !host.is_empty() => {}
        Some("http") if loopback => {}
        _ => return Err(wrong("its url must begin with https://, or with http:// on loopback")),
    }
    let key = match &webhook.secret {
        None => None,
        Some(reference) => {
            let secret = secret(reference).map_err(|what| wrong(&what))?;
            if secret.trim().len() < 16 {
                return Err(wrong("its secret has fewer than 16 characters"));
            }
            Some(hmac::Key::new(hmac::HMAC_SHA256, secret.trim().as_bytes()))
        }
    };
    Ok(Receiver { url, key, format: webhook.format })
}

fn secret(reference: &str) -> Result<String, String> {
    match reference.split_once(':') {
        Some(("env", name)) => {
            std::env::var(name).map_err(|_| format!("the environment variable {name} is not set"))
        }
        Some(("file", path)) => {
            std::fs::read_to_string(Path::new(path)).map_err(|error| format!("{path} can't be read: {error}"))
        }
        _ => Err("its secret is neither env:NAME nor file:PATH".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_signed_with_its_moment() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"0123456789abcdef");
        let signed = signature(&key, 1_700_000_000, "{}");
        let (moment, tag) = signed.split_once(",v1=").unwrap();
        assert_eq!((moment, tag.len()), ("t=1700000000", 64));
        assert_ne!(signed, signature(&key, 1_700_000_001, "{}"));
    }

    #[test]
    fn a_text_for_slack_is_cut_as_it_is_written_and_never_within_an_escape() {
        assert_eq!(escaped("a < b && c > d"), ("a &lt; b &amp;&amp; c &gt; d".to_owned(), true));
        for (text, piece) in [("<", "&lt;"), ("&", "&amp;"), ("x", "x"), ("é", "é"), ("😀", "😀")] {
            let (written, whole) = escaped(&text.repeat(MAX_CHAT_TEXT + 1));
            let length = written.encode_utf16().count();
            assert!(!whole && length <= MAX_CHAT_TEXT && length > MAX_CHAT_TEXT - 5, "{text}: {length}");
            assert_eq!(written.replace(piece, ""), "", "{text}");
        }
        assert!(escaped(&"x".repeat(MAX_CHAT_TEXT)).1);
    }

    #[test]
    fn a_webhook_needs_tls_or_loopback_and_a_secret_worth_the_name() {
        let of = |url: &str, secret: Option<&str>| {
            let webhook = Webhook {
                url: url.to_owned(),
                secret: secret.map(str::to_owned),
                format: WebhookFormat::Slack,
            };
            receiver("x", &webhook).is_ok()
        };
        assert!(of("https://hooks.example/x", None) && of("http://127.0.0.1:9/x", None));
        assert!(!of("http://hooks.example/x", None) && !of("ftp://localhost", None) && !of("hooks", None));
        assert!(
            !of("https://hooks.example/x", Some("plain"))
                && !of("https://h.example", Some("env:NO_SUCH_VARIABLE"))
        );
    }
}
