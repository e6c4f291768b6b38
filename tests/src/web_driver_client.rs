//! How WebDriver's commands reach the driver program: by the small HTTP client that the native volunteer uses too.

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use thirtyfour::error::{WebDriverError, WebDriverResult};
use thirtyfour::session::http::{Body, HttpClient};
use ureq::Agent;
use ureq::http::{Request, Response};

use crate::http::agent;

/// A client that blocks its thread, on which nothing else runs.
pub(crate) struct Client(Agent);

impl Client {
    pub(crate) fn new() -> Client {
        Client(agent())
    }

    fn send_blocking(&self, request: Request<Body<'_>>) -> Result<Response<Bytes>, ureq::Error> {
        let (parts, body) = request.into_parts();
        let response = match body {
            Body::Empty => self.0.run(Request::from_parts(parts, ())),
            Body::Json(json) => self.0.run(Request::from_parts(parts, json.to_string())),
        }?;
        let (parts, mut body) = response.into_parts();
        Ok(Response::from_parts(parts, body.read_to_vec()?.into()))
    }
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

// The signatures are those that `async_trait` makes of the trait's.
impl HttpClient for Client {
    fn send<'client, 'body, 'answer>(
        &'client self,
        request: Request<Body<'body>>,
    ) -> Answer<'answer, WebDriverResult<Response<Bytes>>>
    where
        'client: 'answer,
        'body: 'answer,
    {
        let outcome = self.send_blocking(request);
        Box::pin(ready(
            outcome.map_err(|error| WebDriverError::RequestFailed(error.to_string())),
        ))
    }

    fn new<'client, 'answer>(&'client self) -> Answer<'answer, Arc<dyn HttpClient>>
    where
        'client: 'answer,
    {
        Box::pin(ready(Arc::new(Client::new()) as Arc<dyn HttpClient>))
    }
}
