//! An S3-compatible store: s3s-fs, the file-system server of the s3s project. It understands If-Match and
//! If-None-Match.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Result, anyhow};
use hyper_util::rt::{TokioExecutor, TokioIo};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

const BUCKET: &str = "runs";
const KEY: &str = "key";
const SECRET: &str = "secret";

/// A running store. It ends when it is dropped.
pub(crate) struct S3Server {
    address: SocketAddr,
    folder: TempDir,
    _runtime: Runtime,
}

impl S3Server {
    /// A store with one empty bucket, on a free port.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn start() -> Result<S3Server> {
        let folder = TempDir::new()?;
        std::fs::create_dir(folder.path().join(BUCKET))?;
        let files = s3s_fs::FileSystem::new(folder.path()).map_err(|error| anyhow!("{error:?}"))?;
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        runtime.spawn(accept(listener, builder.build()));
        Ok(S3Server {
            address,
            folder,
            _runtime: runtime,
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What `--state` says for the runs in its bucket.
    pub(crate) fn state(&self) -> PathBuf {
        format!("s3://{BUCKET}/state").into()
    }

    /// The folder in which it has the files of a run.
    pub(crate) fn folder_of(&self, run: &str) -> PathBuf {
        self.folder.path().join(BUCKET).join("state").join(run)
    }

    /// The variables with which a program finds it at this address, its own or that of a link to it.
    pub(crate) fn environment(&self, address: SocketAddr) -> Vec<(&'static str, PathBuf)> {
        vec![
            ("AWS_ENDPOINT_URL", format!("http://{address}").into()),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_ACCESS_KEY_ID", KEY.into()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.into()),
        ]
    }
}

async fn accept(listener: TcpListener, service: S3Service) {
    while let Ok((socket, _)) = listener.accept().await {
        let service = service.clone();
        tokio::spawn(async move {
            let http = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            // However it ends: the client tries again.
            let _ = http.serve_connection(TokioIo::new(socket), service).await;
        });
    }
}
