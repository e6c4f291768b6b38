//! Runs in an S3-compatible store: s3s-fs, the file-system server of the s3s project, in this process. It understands
//! If-Match and If-None-Match.

#![cfg(feature = "s3")]
#![allow(clippy::expect_used, reason = "helpers of tests fail loudly, as tests do")]

use std::net::SocketAddr;
use std::path::Path;
use std::thread;

use bsp::central::{Awaited, Checkpoint};
use bsp::protocol::message::SessionId;
use hyper_util::rt::{TokioExecutor, TokioIo};
use object_store::aws::AmazonS3Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use state::s3::{S3Disk, Store};
use state::writing::{replace_file, write_checkpoint};
use state::{Access, Disk, Opened, Secrets, Wanted, open_on};

const BUCKET: &str = "runs";

/// The server, until the test's process ends.
fn serve(folder: &Path) -> SocketAddr {
    std::fs::create_dir(folder.join(BUCKET)).expect("creates");
    let files = s3s_fs::FileSystem::new(folder).expect("a folder");
    let mut builder = S3ServiceBuilder::new(files);
    builder.set_auth(SimpleAuth::from_single("key", "secret"));
    let service = builder.build();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("non-blocking");
    let address = listener.local_addr().expect("an address");
    let accept = async move {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        loop {
            let (socket, _) = listener.accept().await.expect("a connection");
            let service = service.clone();
            tokio::spawn(async move {
                let http = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = http.serve_connection(TokioIo::new(socket), service).await;
            });
        }
    };
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(accept);
    });
    address
}

fn store(address: SocketAddr) -> Store {
    let builder = AmazonS3Builder::new()
        .with_endpoint(format!("http://{address}"))
        .with_region("us-east-1")
        .with_access_key_id("key")
        .with_secret_access_key("secret");
    Store::new("s3://runs/superstep", builder, true).expect("a store")
}

fn wanted() -> Wanted {
    Wanted {
        run: "digits".to_owned(),
        spec_hash: 7,
        data_hash: 8,
        seed: 9,
        parameters: 5,
        run_file: serde_json::json!({ "name": "digits" }),
    }
}

fn open(disk: &mut S3Disk) -> Opened {
    let secrets = Secrets {
        run_id: 1,
        token_key: [3; 32],
    };
    open_on(disk, &wanted(), &mut || secrets, &|_, _| Vec::new(), 5_000).expect("opens")
}

/// A checkpoint of five parameters.
fn checkpoint(incarnation: u32, number: u64) -> Checkpoint {
    let golden = std::fs::read("tests/golden/checkpoint-format-1.superstep").expect("the committed file");
    let (_, mut checkpoint) = state::checkpoint::decode(&golden).expect("a checkpoint");
    checkpoint.trainer.incarnation = incarnation;
    checkpoint.number = number;
    checkpoint
}

fn write(disk: &mut S3Disk, opened: &Opened, number: u64) -> Result<u64, String> {
    let checkpoint = checkpoint(opened.incarnation, number);
    let mut newest = opened.newest.clone();
    newest.point_to(&checkpoint);
    let about = opened.identity.about(opened.incarnation);
    let written = write_checkpoint(disk, &about, &checkpoint, &newest, 2);
    written.map(|written| written.bytes).map_err(|error| error.to_string())
}

#[test]
fn a_run_in_a_store_goes_on_and_keeps_its_last_checkpoints() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store(serve(folder.path()));
    let mut disk = S3Disk::claim(store.run("digits"), state::clock::now_ms()).expect("it is free");
    let opened = open(&mut disk);
    assert_eq!((opened.incarnation, opened.checkpoint.is_none()), (1, true));
    for number in 1..=4 {
        assert!(write(&mut disk, &opened, number).expect("writes") > 500);
    }
    let contribution = Awaited {
        session: SessionId(1),
        sequence: 99,
        samples: 32,
    };
    let mut ledger = state::Ledger::new(Box::new(disk.clone()), state::Snapshot::of(&checkpoint(1, 4)));
    ledger.append(contribution).expect("no ledger, and no failure");
    let mut names = disk.list().expect("lists");
    names.sort();
    let expected = [
        "checkpoint-1-3.superstep",
        "checkpoint-1-4.superstep",
        "newest.json",
        "run.json",
    ];
    assert_eq!(names, expected);
    assert_eq!(store.runs().expect("lists"), ["digits"]);
    drop((disk, ledger));

    let mut disk = S3Disk::claim(store.run("digits"), state::clock::now_ms()).expect("it was released");
    let opened = open(&mut disk);
    assert_eq!((opened.incarnation, opened.checkpoint), (2, Some(checkpoint(1, 4))));
    assert!(opened.warnings.is_empty(), "{:?}", opened.warnings);
}

#[test]
fn a_second_server_is_told_who_owns_the_run_and_an_owner_that_lost_it_writes_nothing_durable() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store(serve(folder.path()));
    let now_ms = state::clock::now_ms();
    let mut first = S3Disk::claim(store.run("digits"), now_ms).expect("it is free");
    let opened = open(&mut first);
    write(&mut first, &opened, 1).expect("writes");
    let refused = S3Disk::claim(store.run("digits"), now_ms)
        .err()
        .expect("it is owned")
        .to_string();
    let expected = format!("s3://runs/superstep/digits: process {} on ", std::process::id());
    assert!(
        refused.starts_with(&expected) && refused.contains("has owned this run since"),
        "{refused}"
    );

    // Its lease has ended: as if the first one had been asleep for an hour.
    let mut second = S3Disk::claim(store.run("digits"), now_ms + 3_600_000).expect("the lease has ended");
    let again = open(&mut second);
    assert_eq!((again.incarnation, again.checkpoint.is_some()), (2, true));
    assert_eq!(first.lost(), None, "it has not asked yet");
    let refused = write(&mut first, &opened, 2).expect_err("it has lost the run");
    assert!(refused.contains("has taken this run over at"), "{refused}");
    assert!(first.lost().is_some_and(|line| line.contains("this server stops")));
    let error = replace_file(&mut first, "run.json", Access::Owner, Vec::new()).expect_err("it has lost the run");
    assert!(error.to_string().contains("has taken this run over"), "{error}");
    // What the second one sees is its own.
    write(&mut second, &again, 1).expect("writes");
    drop(first);
    write(&mut second, &again, 2).expect("the first one releases nothing that is not its own");
    let json = second.read("newest.json").expect("reads");
    let newest = state::Newest::from_json(&json).expect("whole");
    assert_eq!(newest.checkpoint.as_deref(), Some("checkpoint-2-2.superstep"));
}

#[test]
fn a_store_that_is_not_there_or_refuses_the_key_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let address = serve(folder.path());
    let builder = AmazonS3Builder::new()
        .with_endpoint(format!("http://{address}"))
        .with_region("us-east-1")
        .with_access_key_id("key")
        .with_secret_access_key("wrong");
    let store = Store::new("s3://runs/superstep", builder, true).expect("an address");
    let refused = S3Disk::claim(store.run("digits"), 0)
        .err()
        .expect("a wrong key")
        .to_string();
    assert!(
        refused.starts_with("s3://runs/superstep/digits/newest.json: can't be"),
        "{refused}"
    );
    assert!(!refused.contains('\n'));
    for address in ["s3://", "s3:///prefix"] {
        let error = Store::from_env(address).err().expect("no bucket").to_string();
        assert!(
            error.starts_with(&format!("{address}: is not s3://BUCKET/PREFIX")),
            "{error}"
        );
    }
}
