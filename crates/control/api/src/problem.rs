//! Refusals and failures as RFC 9457 problem details.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

/// Media type of a problem (RFC 9457, section 3).
pub const PROBLEM_JSON: &str = "application/problem+json";

/// What went wrong and what to do, as the body of an answer that is no success.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// The HTTP status, repeated (RFC 9457, section 3.1.3).
    pub status: u16,
    /// A few words that are the same for every occurrence of this status.
    pub title: String,
    /// One sentence about this occurrence.
    pub detail: String,
    /// What to do next.
    pub advice: String,
}

impl Problem {
    /// A problem with that status, one sentence, and what to do.
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            status: status.as_u16(),
            title: status.canonical_reason().unwrap_or("Failed").to_owned(),
            detail: detail.into(),
            advice: advice.into(),
        }
    }

    /// A problem from a sentence that says what to do behind its first semicolon.
    #[must_use]
    pub fn from_sentence(status: StatusCode, sentence: &str) -> Self {
        let (detail, advice) = sentence.split_once("; ").unwrap_or((sentence, ""));
        Self::new(status, detail, advice)
    }

    /// 400: the request can't be understood.
    #[must_use]
    pub fn bad_request(detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail, advice)
    }

    /// 403: the caller is known and may not.
    #[must_use]
    pub fn forbidden(detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail, advice)
    }

    /// 404: there is no such thing.
    #[must_use]
    pub fn not_found(detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail, advice)
    }

    /// 409: what exists stands in the way.
    #[must_use]
    pub fn conflict(detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, detail, advice)
    }

    /// 503: the change or reading can't be recorded, so it is not done.
    #[must_use]
    pub fn unrecorded(reason: impl std::fmt::Display) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("this can't be recorded, so it was not done: {reason}"),
            "see the gateway's log and `trailgate doctor`; it works again once the journal can be written",
        )
    }

    /// 500: the gateway's own fault. The reason goes to the log, not to the caller.
    #[must_use]
    pub fn internal(reason: impl std::fmt::Display) -> Self {
        tracing::error!(%reason, "a request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the gateway could not do this",
            "the reason is in the gateway's log; `trailgate doctor` may name it",
        )
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Problem {}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"trailgate\""));
        }
        response
    }
}
