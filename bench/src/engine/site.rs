//! A server of files on this machine, with the headers that give a page shared memory, and a place for a page's answer.

use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// Ends with its owner.
pub(crate) struct Site {
    address: SocketAddr,
    answers: Receiver<String>,
    _runtime: Runtime,
}

impl Site {
    /// Serves the files of a folder on a free port.
    pub(crate) fn start(folder: PathBuf) -> Result<Site> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0)))?;
        let address = listener.local_addr()?;
        let (sender, answers) = mpsc::channel();
        let pages = Router::new().fallback(file).with_state(folder);
        let router = Router::new()
            .route("/outcome", post(take_answer).with_state(sender))
            .fallback_service(pages);
        runtime.spawn(async move { axum::serve(listener, router).await });
        Ok(Site {
            address,
            answers,
            _runtime: runtime,
        })
    }

    /// The page.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/index.html", self.address)
    }

    /// Waits for the page's answer. It is not asked meanwhile, so that the waiting takes none of its time.
    pub(crate) fn answer(&self, patience: Duration) -> Result<String> {
        let answer = self.answers.recv_timeout(patience);
        answer.with_context(|| format!("the page gave no answer in {patience:?}"))
    }

    /// Forgets what pages have answered so far: an answer may come after its measurement was given up.
    pub(crate) fn forget_answers(&self) {
        while self.answers.try_recv().is_ok() {}
    }
}

async fn take_answer(State(answers): State<Sender<String>>, answer: String) -> StatusCode {
    match answers.send(answer) {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::GONE,
    }
}

async fn file(State(folder): State<PathBuf>, uri: Uri) -> Response {
    let path = Path::new(uri.path().trim_start_matches('/'));
    let is_below = path.components().all(|part| matches!(part, Component::Normal(_)));
    let Some(bytes) = is_below.then(|| std::fs::read(folder.join(path)).ok()).flatten() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let headers = [
        (header::CONTENT_TYPE.as_str(), content_type(path)),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Cross-Origin-Embedder-Policy", "require-corp"),
    ];
    (headers, bytes).into_response()
}

fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("wasm") => "application/wasm",
        _ => "application/octet-stream",
    }
}
