//! `/v1/targets`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use store::{NewTarget, TargetUrl};
use vocabulary::Name;

use crate::caller::{Administrator, Insider};
use crate::control::{Control, refused};
use crate::extract::{Body, Named};
use crate::problem::Problem;
use crate::types::{AddTarget, Removed, TargetTest, TargetView};

pub(super) async fn list(_: Insider, State(control): State<Control>) -> Json<Vec<TargetView>> {
    let snapshot = control.gatehouse.snapshot();
    let mut targets: Vec<TargetView> =
        snapshot.targets.values().map(|target| TargetView::of(target)).collect();
    targets.sort_by(|one, other| one.name.cmp(&other.name));
    Json(targets)
}

pub(super) async fn show(
    _: Insider,
    State(control): State<Control>,
    Named(name): Named<Name>,
) -> Result<Json<TargetView>, Problem> {
    view(&control, &name).map(Json)
}

pub(super) async fn add(
    Administrator(caller): Administrator,
    State(control): State<Control>,
    Body(request): Body<AddTarget>,
) -> Result<(StatusCode, Json<TargetView>), Problem> {
    let name = request.name.clone();
    let target = new_target(request)?;
    control.change(&caller, move |edit| edit.add_target(&target)).await?;
    Ok((StatusCode::CREATED, Json(view(&control, &name)?)))
}

pub(super) async fn remove(
    Administrator(caller): Administrator,
    State(control): State<Control>,
    Named(name): Named<Name>,
) -> Result<Json<Removed>, Problem> {
    let gone = name.clone();
    control.change(&caller, move |edit| edit.remove_target(&gone)).await?;
    Ok(Json(Removed { name }))
}

pub(super) async fn test(
    _: Administrator,
    State(control): State<Control>,
    Named(name): Named<Name>,
) -> Result<Json<TargetTest>, Problem> {
    let target = control.gatehouse.snapshot().targets.get(&name).cloned();
    let target = target.ok_or_else(|| refused(&store::StoreError::NoTarget(name)))?;
    Ok(Json(control.prober.test(target).await))
}

fn view(control: &Control, name: &Name) -> Result<TargetView, Problem> {
    let snapshot = control.gatehouse.snapshot();
    let target = snapshot.targets.get(name).map(|target| TargetView::of(target));
    target.ok_or_else(|| refused(&store::StoreError::NoTarget(name.clone())))
}

fn new_target(request: AddTarget) -> Result<NewTarget, Problem> {
    let url: TargetUrl = request.url.parse().map_err(|error: store::TargetUrlError| {
        let mut problem = Problem::from_sentence(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string());
        if problem.advice.is_empty() {
            "write it as the client library does".clone_into(&mut problem.advice);
        }
        problem
    })?;
    Ok(NewTarget { name: request.name, url, labels: request.labels, allow: request.allow })
}
