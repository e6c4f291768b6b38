//! Who owns a run in a store: a lease within `newest.json`, which is put only over the version that its owner knows.
//!
//! The lease ends [`LEASE`] after its last renewal, or at once where its process is known to have ended. A server whose
//! lease another one has taken over learns it at its next put, which the store refuses: so nothing of it is durable
//! after that, whatever the clocks say.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, UpdateVersion};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Store, said};
use crate::clock::{now_ms, utc};
use crate::disk::{DiskError, Doing};
use crate::newest::{self, Newest};
use crate::owner::{Owner, OwnerError, this_process};

/// How long a lease lasts. It is renewed after each third of that: two renewals may fail.
pub const LEASE: Duration = Duration::from_secs(60);
/// The lease's key in `newest.json`.
const KEY: &str = "lease";
/// How often a claim or a put is tried again when the file has changed meanwhile.
const TRIES: usize = 3;

/// The lease as the file has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct LeaseRecord {
    /// A number that no other lease has.
    id: String,
    owner: Owner,
    /// The boot and the namespace in which the process has its number.
    machine: String,
    renewed_at_ms: u64,
    is_released: bool,
}

/// The ownership of a run in a store.
pub(super) struct Lease {
    store: Store,
    id: String,
    owner: Owner,
    known: Mutex<Known>,
}

/// The file as this server has put it last.
struct Known {
    document: Map<String, Value>,
    version: UpdateVersion,
    /// Who has taken the run over.
    lost: Option<String>,
}

impl Lease {
    /// Becomes the owner, and remains it until it is dropped.
    pub(super) fn claim(store: &Store, now_ms: u64) -> Result<Arc<Lease>, OwnerError> {
        let error = |source| DiskError::at(format!("{}/{}", store.url, newest::FILE), Doing::Locked)(source);
        let id = random_id().map_err(error)?;
        let owner = this_process(now_ms);
        for _ in 0..TRIES {
            let (mut document, mode) = match read(store).map_err(error)? {
                // The answer to the first try was lost on its way.
                Some((document, version)) if lease_of(&document).is_some_and(|lease| lease.id == id) => {
                    return Lease::begin(store, id, owner, document, version).map_err(|refusal| error(refusal).into());
                }
                Some((document, version)) => {
                    if let Some(held) = held_by(&document, now_ms) {
                        return Err(OwnerError::Held {
                            folder: store.url.clone(),
                            owner: Some(held.owner),
                            now_ms,
                        });
                    }
                    (document, PutMode::Update(version))
                }
                None => (as_document(&Newest::new(0, now_ms).to_json()), PutMode::Create),
            };
            set(&mut document, &record(&id, &owner, false));
            match put(store, &document, mode).map_err(error)? {
                Ok(version) => {
                    return Lease::begin(store, id, owner, document, version).map_err(|refusal| error(refusal).into());
                }
                Err(refusal) if is_changed(&refusal) => {}
                Err(refusal) => return Err(error(said(&refusal)).into()),
            }
        }
        Err(error(io::Error::other("other servers try to own the run at the same time")).into())
    }

    /// The lease that was put, which is renewed from here on.
    fn begin(
        store: &Store,
        id: String,
        owner: Owner,
        document: Map<String, Value>,
        version: UpdateVersion,
    ) -> io::Result<Arc<Lease>> {
        let lease = Arc::new(Lease {
            store: store.clone(),
            id,
            owner,
            known: Mutex::new(Known {
                document,
                version,
                lost: None,
            }),
        });
        renew_in_background(&lease)?;
        Ok(lease)
    }

    /// Who has taken the run over; none as long as it is owned.
    pub(super) fn lost(&self) -> Option<String> {
        self.known().lost.clone()
    }

    /// Puts this content of `newest.json`, if the run is still owned.
    pub(super) fn put(&self, content: &[u8]) -> io::Result<()> {
        let mut known = self.known();
        self.put_document(&mut known, as_document(content), false)
    }

    /// Says that the owner lives.
    fn renew(&self) -> io::Result<()> {
        let mut known = self.known();
        let document = known.document.clone();
        self.put_document(&mut known, document, false)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // What it holds is set at once: a panic leaves nothing half done.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put_document(&self, known: &mut Known, mut document: Map<String, Value>, is_released: bool) -> io::Result<()> {
        set(&mut document, &record(&self.id, &self.owner, is_released));
        for _ in 0..TRIES {
            if let Some(line) = &known.lost {
                return Err(io::Error::other(line.clone()));
            }
            match put(&self.store, &document, PutMode::Update(known.version.clone()))? {
                Ok(version) => {
                    known.version = version;
                    known.document = document;
                    return Ok(());
                }
                Err(refusal) if is_changed(&refusal) => self.look_again(known)?,
                Err(refusal) => return Err(said(&refusal)),
            }
        }
        Err(io::Error::other(
            "the store refuses each put; check that it supports If-Match",
        ))
    }

    /// The file is not as this server knows it: either the answer to an earlier put was lost on its way, or another
    /// server owns the run.
    fn look_again(&self, known: &mut Known) -> io::Result<()> {
        let now = read(&self.store)?;
        let lease = now.as_ref().and_then(|(document, _)| lease_of(document));
        match (now, lease) {
            (Some((_, version)), Some(lease)) if lease.id == self.id => known.version = version,
            (_, Some(lease)) => {
                known.lost = Some(format!(
                    "process {} on {} has taken this run over at {}; this server stops",
                    lease.owner.process,
                    lease.owner.host,
                    utc(lease.owner.since_ms)
                ));
            }
            (_, None) => known.lost = Some("newest.json was removed or replaced; this server stops".to_owned()),
        }
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut known = self.known();
        let document = known.document.clone();
        // Otherwise the lease ends by itself.
        let _ = self.put_document(&mut known, document, true);
    }
}

/// Renews the lease until it is dropped or lost.
fn renew_in_background(lease: &Arc<Lease>) -> io::Result<()> {
    let lease: Weak<Lease> = Arc::downgrade(lease);
    let renew = move || {
        loop {
            thread::sleep(LEASE / 3);
            let Some(lease) = lease.upgrade() else { return };
            // A renewal that fails is tried again; one that is refused is remembered.
            let _ = lease.renew();
            if lease.lost().is_some() {
                return;
            }
        }
    };
    thread::Builder::new().name("lease".to_owned()).spawn(renew).map(|_| ())
}

/// `newest.json` and its version; none where there is none.
fn read(store: &Store) -> io::Result<Option<(Map<String, Value>, UpdateVersion)>> {
    let (shared, key) = (Arc::clone(&store.shared), store.key(newest::FILE));
    let request = async move {
        let answer = shared.objects.get(&key).await?;
        let version = UpdateVersion {
            e_tag: answer.meta.e_tag.clone(),
            version: answer.meta.version.clone(),
        };
        Ok((answer.bytes().await?, version))
    };
    match store.wait(request) {
        Ok((json, version)) => Ok(Some((as_document(&json), version))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Puts the file; the store's refusal is the inner error.
fn put(store: &Store, document: &Map<String, Value>, mode: PutMode) -> io::Result<Result<UpdateVersion, Error>> {
    let json = serde_json::to_vec_pretty(document)?;
    let (shared, key) = (Arc::clone(&store.shared), store.key(newest::FILE));
    let options = PutOptions::from(mode);
    let request = async move { Ok(shared.objects.put_opts(&key, json.into(), options).await) };
    Ok(store.wait(request)?.map(UpdateVersion::from))
}

/// Whether a put was refused since the file is another one than was thought.
fn is_changed(refusal: &Error) -> bool {
    matches!(
        refusal,
        Error::Precondition { .. } | Error::AlreadyExists { .. } | Error::NotFound { .. }
    )
}

/// The server that owns the run, if its lease lasts.
fn held_by(document: &Map<String, Value>, now_ms: u64) -> Option<LeaseRecord> {
    let lease = lease_of(document)?;
    let ends_ms = lease.renewed_at_ms.saturating_add(LEASE.as_millis() as u64);
    let has_ended = lease.machine == machine() && !is_running(lease.owner.process);
    (!lease.is_released && now_ms < ends_ms && !has_ended).then_some(lease)
}

/// The lease in a `newest.json`.
fn lease_of(document: &Map<String, Value>) -> Option<LeaseRecord> {
    serde_json::from_value(document.get(KEY)?.clone()).ok()
}

/// The server that owns the run of this `newest.json`.
pub fn owner_in(json: &[u8], now_ms: u64) -> Option<Owner> {
    held_by(&as_document(json), now_ms).map(|lease| lease.owner)
}

fn record(id: &str, owner: &Owner, is_released: bool) -> LeaseRecord {
    LeaseRecord {
        id: id.to_owned(),
        owner: owner.clone(),
        machine: machine(),
        renewed_at_ms: now_ms(),
        is_released,
    }
}

fn set(document: &mut Map<String, Value>, lease: &LeaseRecord) {
    let lease = serde_json::to_value(lease).unwrap_or_default();
    document.insert(KEY.to_owned(), lease);
}

/// The file's keys; a damaged one has none.
fn as_document(json: &[u8]) -> Map<String, Value> {
    serde_json::from_slice(json).unwrap_or_default()
}

fn random_id() -> io::Result<String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(format!("{:016x}", u64::from_le_bytes(bytes)))
}

/// The boot of this machine and the namespace in which processes have their numbers; empty where they are not known.
fn machine() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    format!("{} {}", boot.trim(), namespace.display()).trim().to_owned()
}

/// Whether there is a process of this number here. Where that is not known: there is.
fn is_running(process: u32) -> bool {
    !Path::new("/proc/self").exists() || Path::new("/proc").join(process.to_string()).exists()
}
