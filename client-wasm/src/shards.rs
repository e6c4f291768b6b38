//! What the BSP worker fetches over HTTP. When to try again is the loop's to say.

use std::future::Future;
use std::rc::Rc;

use js_sys::{Error, Uint8Array};
use volunteer::fetch::{FetchError, Resource};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{DedicatedWorkerGlobalScope, Response};

/// Fetches over HTTP; the description is here already.
pub(crate) struct Fetcher {
    scope: DedicatedWorkerGlobalScope,
    /// It was fetched already: it says how much memory this module was to be instantiated with.
    description: Rc<[u8]>,
}

impl Fetcher {
    /// `description` is the answer to the first fetch of [`Resource::Description`].
    pub(crate) fn new(scope: &DedicatedWorkerGlobalScope, description: &str) -> Fetcher {
        Fetcher {
            scope: scope.clone(),
            description: description.as_bytes().into(),
        }
    }

    /// Fetches it, once.
    pub(crate) fn fetch(&self, resource: &Resource) -> impl Future<Output = Result<Vec<u8>, FetchError>> + 'static {
        let (scope, description) = (self.scope.clone(), Rc::clone(&self.description));
        let path = match resource {
            Resource::Description => None,
            // Beside this worker's script.
            Resource::Shard { .. } => Some(format!(".{}", resource.path())),
        };
        async move {
            match path {
                Some(path) => fetch(&scope, &path).await,
                None => Ok(description.to_vec()),
            }
        }
    }
}

async fn fetch(scope: &DedicatedWorkerGlobalScope, path: &str) -> Result<Vec<u8>, FetchError> {
    let no_answer = |error: JsValue| FetchError::NoAnswer(said(&error));
    let response = JsFuture::from(scope.fetch_with_str(path)).await.map_err(no_answer)?;
    let response: Response = response.unchecked_into();
    if !response.ok() {
        return Err(FetchError::Status(response.status()));
    }
    let body = response.array_buffer().map_err(no_answer)?;
    let body = JsFuture::from(body).await.map_err(no_answer)?;
    Ok(Uint8Array::new(&body).to_vec())
}

fn said(error: &JsValue) -> String {
    error
        .dyn_ref::<Error>()
        .map_or_else(|| "an unknown error".to_owned(), |error| error.message().into())
}
