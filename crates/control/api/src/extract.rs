//! Reading requests, with a problem where they can't be read.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use crate::control::Control;
use crate::problem::Problem;

/// A JSON body. An empty one is `{}`, for requests where everything is optional.
pub(crate) struct Body<T>(pub T);

/// The query parameters; unknown ones are refused by the type.
pub(crate) struct Params<T>(pub T);

/// What the path names.
pub(crate) struct Named<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Control> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, control: &Control) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, control).await.map_err(|rejection| {
            Problem::new(
                rejection.status(),
                "the request's body can't be read",
                "send less, and send all of it",
            )
        })?;
        let text: &[u8] = if bytes.trim_ascii().is_empty() { b"{}" } else { &bytes };
        serde_json::from_slice(text).map(Self).map_err(|error| {
            Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                format!("the request's body does not fit: {error}"),
                "send a JSON object as the API describes it",
            )
        })
    }
}

impl<T: DeserializeOwned> FromRequestParts<Control> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, control: &Control) -> Result<Self, Problem> {
        Query::from_request_parts(parts, control)
            .await
            .map(|Query(params)| Self(params))
            .map_err(|rejection| Problem::bad_request(rejection.body_text(), "check the query parameters"))
    }
}

impl<T: DeserializeOwned + Send> FromRequestParts<Control> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, control: &Control) -> Result<Self, Problem> {
        Path::from_request_parts(parts, control).await.map(|Path(named)| Self(named)).map_err(|rejection| {
            Problem::not_found(rejection.body_text(), "check the name or the id in the path")
        })
    }
}
