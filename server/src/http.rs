//! Everything under the server's address: pages, interface, shards, sockets.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use bsp::protocol::frame::max_frame_bytes;
use bsp::protocol::message::SessionId;
use nn::Model;
use run::dataset::Legend;
use run::goal::Goal;
use run::model_file::model_file;
use serde::Deserialize;
use tokio::sync::mpsc;
use volunteer::description::RunDescription;

use crate::api::{Status, Volunteer};
use crate::assets::asset;
use crate::controller::{Controller, ControllerHandle, HasEnded};
use crate::shards::Shards;
use crate::socket;

/// What requests are answered from.
pub(crate) struct Site {
    pub(crate) description: RunDescription,
    pub(crate) goal: Option<Goal>,
    pub(crate) model: Arc<Model>,
    pub(crate) legend: Option<Legend>,
    pub(crate) shards: Arc<Shards>,
    pub(crate) controller: ControllerHandle,
    /// Each open socket holds a clone: when all clones are dropped, all sockets have closed.
    pub(crate) open_sockets: mpsc::Sender<()>,
}

/// A volunteer's outbox has room for this many frames of a model: one is on its way, a reconnect asks for another, and
/// all other frames are small.
const MODELS_WAITING: usize = 4;

/// On every response, scripts of workers included. The first two isolate the page, without which a browser has no
/// shared memory; the policy lets it run only what comes from here.
const HEADERS: [(HeaderName, HeaderValue); 6] = [
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("cross-origin-embedder-policy"),
        HeaderValue::from_static("require-corp"),
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self' ws: wss:",
        ),
    ),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
];

/// All routes.
pub(crate) fn router(site: Site) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/api/v1/run", get(run))
        .route("/api/v1/status", get(status))
        .route("/api/v1/volunteers", get(volunteers))
        .route("/api/v1/history", get(history))
        .route("/api/v1/model.safetensors", get(model))
        .route("/api/v1/shards/{name}", get(shard))
        .route("/ws", get(open_socket))
        .fallback(get(asset))
        .layer(axum::middleware::map_response(with_headers))
        .with_state(Arc::new(site))
}

async fn with_headers(mut response: Response) -> Response {
    response.headers_mut().extend(HEADERS);
    response
}

impl IntoResponse for HasEnded {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{self}\n")).into_response()
    }
}

/// An answer that changes from one request to the next: no cache may keep it.
fn fresh(body: impl IntoResponse) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], body).into_response()
}

async fn run(State(site): State<Arc<Site>>) -> Response {
    fresh(Json(&site.description))
}

async fn status(State(site): State<Arc<Site>>) -> Result<Response, HasEnded> {
    let (name, goal) = (site.description.name.clone(), site.goal);
    let status = site
        .controller
        .inspect(move |controller, now| Status::new(name, goal, controller, now))
        .await?;
    Ok(fresh(Json(status)))
}

/// `?id=7`: only this volunteer. A tab asks for itself in this way.
#[derive(Deserialize)]
struct Which {
    id: Option<u64>,
}

async fn volunteers(State(site): State<Arc<Site>>, Query(which): Query<Which>) -> Result<Response, HasEnded> {
    let look = move |controller: &Controller, now| -> Vec<Volunteer> {
        let central = controller.central();
        match which.id {
            Some(id) => central
                .volunteer(now, SessionId(id))
                .into_iter()
                .map(Volunteer::from)
                .collect(),
            None => central.volunteers(now).map(Volunteer::from).collect(),
        }
    };
    let volunteers = site.controller.inspect(look).await?;
    Ok(fresh(Json(volunteers)))
}

async fn history(State(site): State<Arc<Site>>) -> Result<Response, HasEnded> {
    let reader = site
        .controller
        .inspect(|controller, _| controller.history().reader())
        .await?;
    Ok(fresh(Json(reader.curves())))
}

async fn model(State(site): State<Arc<Site>>) -> Result<Response, HasEnded> {
    let run = site.description.name.clone();
    let (about, parameters) = site
        .controller
        .inspect(move |controller, _| {
            let (about, parameters) = controller.result(run);
            (about, parameters.to_vec())
        })
        .await?;
    let response = match model_file(&site.model, &parameters, site.legend.as_ref(), &about) {
        Ok(bytes) => {
            let file_name = format!("attachment; filename=\"{}-{}.safetensors\"", about.run, about.version);
            let headers = [
                (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
                (header::CONTENT_DISPOSITION, file_name),
            ];
            fresh((headers, bytes))
        }
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the model can't be written: {error:#}\n"),
        )
            .into_response(),
    };
    Ok(response)
}

async fn shard(State(site): State<Arc<Site>>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    site.shards.response(&name, &headers)
}

async fn open_socket(
    State(site): State<Arc<Site>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let limit = max_frame_bytes(site.description.parameters);
    let (controller, open) = (site.controller.clone(), site.open_sockets.clone());
    upgrade
        .max_message_size(limit)
        .max_frame_size(limit)
        .on_upgrade(async move |socket| {
            socket::serve(socket, peer, controller, MODELS_WAITING * limit).await;
            drop(open);
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocols_document_states_how_much_waits_for_a_volunteer() {
        let cell = format!("| {MODELS_WAITING} frames of a model (`MODELS_WAITING`");
        assert!(include_str!("../../docs/protocol.md").contains(&cell), "{cell}");
    }
}
