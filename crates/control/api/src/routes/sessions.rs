//! `/v1/sessions`

use axum::Json;
use axum::extract::State;

use crate::caller::Insider;
use crate::control::Control;
use crate::types::SessionView;

pub(super) async fn list(_: Insider, State(control): State<Control>) -> Json<Vec<SessionView>> {
    let mut sessions: Vec<SessionView> = control
        .gatehouse
        .sessions()
        .iter()
        .map(|live| SessionView {
            session: live.id,
            principal: live.who.name.clone(),
            on_behalf_of: live.who.on_behalf_of.clone(),
            target: live.target.name.clone(),
            since: live.since,
            expires_at: live.expires_at,
        })
        .collect();
    sessions.sort_by_key(|view| view.session);
    Json(sessions)
}
