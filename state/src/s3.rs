//! A run's files in an S3-compatible store: `s3://BUCKET/PREFIX`. Credentials, endpoint and region come from the
//! environment, under Amazon's names (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_ENDPOINT_URL`, `AWS_REGION`).
//!
//! [`S3Disk`] is a [`Disk`] there: a file that is written is kept in memory until it gets its own name, and is then put
//! whole; a store's put is durable when it returns. `newest.json` is put only if it is the one that this server has put
//! before ([`lease`]), so that two servers never both own a run. A store can't write behind a file's end, so a ledger
//! there would cost a request for each contribution: there is none.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as Key;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt, RetryConfig};
use thiserror::Error;
use tokio::runtime::Runtime;

use crate::disk::{Access, Disk, WriteContent};
use crate::newest;
use crate::owner::OwnerError;

mod lease;

use lease::Lease;
pub use lease::{LEASE, owner_in};

/// The longest time of one request: a checkpoint of 240 MB on a link of 10 Mbit/s takes 200 s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a request that failed is tried again.
const RETRY_FOR: Duration = Duration::from_secs(30);

/// Why a store can't be used.
#[derive(Debug, Error)]
#[error("{url}: {what}; check the address, AWS_ENDPOINT_URL, AWS_REGION and the credentials")]
pub struct StoreError {
    /// Its address.
    pub url: String,
    /// What is wrong.
    pub what: String,
}

/// A store, and the place of all runs in it.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    url: String,
    prefix: Key,
}

struct Shared {
    objects: AmazonS3,
    runtime: Option<Runtime>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Waiting for its tasks is not allowed everywhere.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Whether a state folder's name is the address of a store.
pub fn is_address(text: &str) -> bool {
    text.starts_with("s3://")
}

impl Store {
    /// The store of an address `s3://BUCKET/PREFIX`.
    ///
    /// # Errors
    /// The address or the environment makes no sense.
    pub fn from_env(url: &str) -> Result<Store, StoreError> {
        let builder = AmazonS3Builder::from_env();
        let endpoint = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
        let endpoint = endpoint.iter().find_map(|name| std::env::var(name).ok());
        let is_plain = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
        Store::new(url, builder, is_plain)
    }

    /// The store that a builder describes; `is_plain`: it is reached without TLS.
    ///
    /// # Errors
    /// The address or the builder makes no sense.
    pub fn new(url: &str, builder: AmazonS3Builder, is_plain: bool) -> Result<Store, StoreError> {
        let error = |what: String| StoreError {
            url: url.to_owned(),
            what,
        };
        let (bucket, prefix) = url
            .strip_prefix("s3://")
            .map(|place| place.split_once('/').unwrap_or((place, "")))
            .filter(|(bucket, _)| !bucket.is_empty())
            .ok_or_else(|| error("is not s3://BUCKET/PREFIX".to_owned()))?;
        // Another part of the program may have chosen one already: then that is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = ClientOptions::new()
            .with_timeout(REQUEST_TIMEOUT)
            .with_allow_http(is_plain);
        let retry = RetryConfig {
            retry_timeout: RETRY_FOR,
            ..RetryConfig::default()
        };
        let objects = builder
            .with_bucket_name(bucket)
            .with_client_options(client)
            .with_retry(retry)
            .build()
            .map_err(|refusal| error(refusal.to_string()))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("s3")
            .enable_all()
            .build()
            .map_err(|refusal| error(refusal.to_string()))?;
        Ok(Store {
            shared: Arc::new(Shared {
                objects,
                runtime: Some(runtime),
            }),
            url: url.trim_end_matches('/').to_owned(),
            prefix: Key::from(prefix),
        })
    }

    /// The place of one run.
    pub fn run(&self, name: &str) -> Store {
        Store {
            shared: Arc::clone(&self.shared),
            url: format!("{}/{name}", self.url),
            prefix: self.prefix.clone().join(name),
        }
    }

    /// The names of the runs.
    ///
    /// # Errors
    /// What the store says.
    pub fn runs(&self) -> Result<Vec<String>, StoreError> {
        let (shared, prefix) = (Arc::clone(&self.shared), self.prefix.clone());
        let listed = self.wait(async move { shared.objects.list_with_delimiter(Some(&prefix)).await });
        let listed = listed.map_err(|error| StoreError {
            url: self.url.clone(),
            what: error.to_string(),
        })?;
        let names = listed
            .common_prefixes
            .iter()
            .filter_map(|prefix| prefix.filename().map(str::to_owned));
        Ok(names.collect())
    }

    fn key(&self, file: &str) -> Key {
        self.prefix.clone().join(file)
    }

    /// Waits for a request. It runs on the store's own thread, so that any thread may wait.
    fn wait<T: Send + 'static>(
        &self,
        request: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> io::Result<T> {
        let Some(runtime) = &self.shared.runtime else {
            return Err(io::Error::other("the store is closed"));
        };
        let (answer, answered) = mpsc::sync_channel(1);
        runtime.spawn(async move {
            // The thread that waits is there: see below.
            let _ = answer.send(request.await);
        });
        let answered = answered
            .recv()
            .map_err(|_| io::Error::other("the store's thread has ended"))?;
        answered.map_err(|error| said(&error))
    }
}

/// An error of the store as one of files.
fn said(error: &object_store::Error) -> io::Error {
    use object_store::Error;
    let kind = match error {
        Error::NotFound { .. } => io::ErrorKind::NotFound,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => io::ErrorKind::PermissionDenied,
        _ => io::ErrorKind::Other,
    };
    // One line: some stores answer with a document.
    let text = error.to_string();
    io::Error::new(kind, text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// A run's files in a store. A clone has the same lease.
#[derive(Clone)]
pub struct S3Disk {
    store: Store,
    /// Without one they are read only.
    lease: Option<Arc<Lease>>,
    /// Files that have not got their own name yet.
    unfinished: HashMap<String, Vec<u8>>,
}

impl S3Disk {
    /// Makes this process the owner of the run in the store, and keeps it that as long as the disk lives.
    ///
    /// # Errors
    /// Another server owns it, or the store refuses.
    pub fn claim(store: Store, now_ms: u64) -> Result<S3Disk, OwnerError> {
        let lease = Lease::claim(&store, now_ms)?;
        Ok(S3Disk {
            lease: Some(lease),
            store,
            unfinished: HashMap::new(),
        })
    }

    /// The files of a run that another process may own, to be read.
    pub fn reader(store: Store) -> S3Disk {
        S3Disk {
            lease: None,
            store,
            unfinished: HashMap::new(),
        }
    }

    /// Who has taken the run over, in a line; none as long as this server owns it.
    pub fn lost(&self) -> Option<String> {
        self.lease.as_ref()?.lost()
    }

    /// The lease, while it lasts.
    fn lease(&self) -> io::Result<&Lease> {
        let lease = self.lease.as_ref().ok_or(io::ErrorKind::ReadOnlyFilesystem)?;
        lease.lost().map_or(Ok(lease), |line| Err(io::Error::other(line)))
    }

    fn put(&self, file: &str, content: Vec<u8>) -> io::Result<()> {
        let (store, key) = (self.store.clone(), self.store.key(file));
        self.store
            .wait(async move { store.shared.objects.put(&key, content.into()).await })?;
        Ok(())
    }
}

impl Disk for S3Disk {
    fn write(&mut self, file: &str, _access: Access, content: &mut WriteContent<'_>) -> io::Result<()> {
        self.lease()?;
        let mut bytes = Vec::new();
        content(&mut bytes)?;
        self.unfinished.insert(file.to_owned(), bytes);
        Ok(())
    }

    fn append(&mut self, _file: &str, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn sync(&mut self, _file: &str) -> io::Result<()> {
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let content = self.unfinished.remove(from).ok_or(io::ErrorKind::NotFound)?;
        let lease = self.lease()?;
        if to == newest::FILE {
            lease.put(&content)
        } else {
            self.put(to, content)
        }
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn read(&mut self, file: &str) -> io::Result<Vec<u8>> {
        let (store, key) = (self.store.clone(), self.store.key(file));
        let request = async move { store.shared.objects.get(&key).await?.bytes().await };
        self.store.wait(request).map(|bytes| bytes.to_vec())
    }

    fn list(&mut self) -> io::Result<Vec<String>> {
        let (store, prefix) = (self.store.clone(), self.store.prefix.clone());
        let request = async move { store.shared.objects.list_with_delimiter(Some(&prefix)).await };
        let listed = self.store.wait(request)?;
        let names = listed.objects.iter().filter_map(|object| object.location.filename());
        Ok(names.map(str::to_owned).collect())
    }

    fn length(&mut self, file: &str) -> io::Result<u64> {
        let (store, key) = (self.store.clone(), self.store.key(file));
        let head = self.store.wait(async move { store.shared.objects.head(&key).await })?;
        Ok(head.size)
    }

    fn remove(&mut self, file: &str) -> io::Result<()> {
        if self.unfinished.remove(file).is_some() {
            return Ok(());
        }
        self.lease()?;
        let (store, key) = (self.store.clone(), self.store.key(file));
        self.store.wait(async move { store.shared.objects.delete(&key).await })
    }

    fn path(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("{}/{file}", self.store.url))
    }
}
