//! Every route under `/v1/`, and the node's log under `/log/`.

mod connect;
mod health;
mod logs;
mod policy;
mod principals;
mod review_page;
mod reviews;
mod sessions;
mod ssh;
mod targets;
mod trail;

use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use crate::control::Control;
use crate::problem::Problem;

/// Longest body of a request, in bytes: a target with its certificates fits many times.
const MAX_BODY: usize = 1 << 20;

/// How long an answer may take to begin.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);

/// The API, the same on every listener.
pub fn router(control: Control) -> Router {
    let mut router = Router::new()
        .route("/v1/health", get(health::bare))
        .route("/v1/status", get(health::full))
        .route("/v1/connect", get(connect::card))
        .route("/v1/policy", get(policy::show).post(policy::apply))
        .route("/v1/policy/history", get(policy::history))
        .route("/v1/policy/explain", post(policy::explain))
        .route("/v1/reviews", get(reviews::list))
        .route("/v1/reviews/{id}", get(reviews::show))
        .route("/v1/reviews/{id}/approve", post(reviews::approve))
        .route("/v1/reviews/{id}/deny", post(reviews::deny))
        .route("/reviews/{id}", get(review_page::ask).post(review_page::answer))
        .route("/v1/sessions", get(sessions::list))
        .route("/v1/ssh/certificates", post(ssh::certify))
        .route("/v1/targets", get(targets::list).post(targets::add))
        .route("/v1/targets/{name}", get(targets::show).delete(targets::remove))
        .route("/v1/targets/{name}/test", post(targets::test))
        .route("/v1/trail", get(trail::list))
        .route("/v1/trail/tail", get(trail::tail))
        .route("/v1/trail/{id}", get(trail::show))
        .route("/v1/trail/{id}/captured/{field}", get(trail::captured))
        .route("/v1/trail/{id}/proof", get(trail::prove))
        .route("/v1/trail/holds", get(trail::holds))
        .route("/v1/trail/readings", post(trail::reading))
        .route("/v1/trail/sessions/{session}/erase", post(trail::erase))
        .route("/v1/trail/sessions/{session}/hold", post(trail::hold))
        .route("/v1/trail/sessions/{session}/release", post(trail::release));
    for kind in principals::KINDS {
        router = router
            .route(&format!("/v1/{kind}s"), principals::collection(kind))
            .route(&format!("/v1/{kind}s/{{name}}"), principals::one(kind))
            .route(&format!("/v1/{kind}s/{{name}}/rotate"), principals::rotate(kind))
            .route(&format!("/v1/{kind}s/{{name}}/disable"), principals::set_disabled(kind, true))
            .route(&format!("/v1/{kind}s/{{name}}/enable"), principals::set_disabled(kind, false));
    }
    router
        .route("/log/{*path}", get(logs::node))
        .route("/trail-log/add", post(logs::submit))
        .route("/trail-log/{*path}", get(logs::trail))
        .fallback(no_such_route)
        .method_not_allowed_fallback(no_such_method)
        .layer(from_fn(in_time))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(control)
}

async fn no_such_route() -> Problem {
    Problem::not_found("the API has nothing at this path", "its routes are under /v1/")
}

async fn no_such_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "the path can't be used with this method",
        "see the API's description",
    )
}

/// Gives up on an answer that does not begin in time. What a handler blocks on goes on to its own end.
async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(ANSWER_DEADLINE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(
            StatusCode::GATEWAY_TIMEOUT,
            format!("this took longer than {} s", ANSWER_DEADLINE.as_secs()),
            "ask for less: a shorter time, a session, a limit",
        )
        .into_response(),
    }
}
