//! The runs of a state folder, for those who list them. Nothing is opened for writing, and nobody is kept out.

use std::fs;
use std::path::Path;

use serde::Serialize;

#[cfg(feature = "s3")]
use crate::clock::now_ms;
use crate::disk::{Disk, DiskError, Doing, FileSystem};
use crate::error::OpenError;
use crate::identity::{self, Identity};
use crate::newest::{self, Newest, RunState};
use crate::owner::{Owner, owner_of};
#[cfg(feature = "s3")]
use crate::s3::{self, Store};

/// A run, as its folder shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ListedRun {
    /// Its folder's name: the run's, or that under which a fresh start has kept it.
    pub name: String,
    /// How it stands, in a word.
    pub state: &'static str,
    /// Accepted samples in its newest checkpoint.
    pub samples: u64,
    /// The version of the model there.
    pub version: u64,
    /// The last evaluation's share of right answers.
    pub accuracy: Option<f64>,
    /// Bytes of its folder.
    pub bytes: u64,
    /// When it began, in milliseconds since 1970; none where that can't be read.
    pub created_at_ms: Option<u64>,
    /// When its newest checkpoint was written, or its last start.
    pub written_at_ms: Option<u64>,
    /// The server that owns it now.
    pub owner: Option<Owner>,
    /// What is wrong with its files: a line.
    pub problem: Option<String>,
}

/// All runs in the folder, by name.
///
/// # Errors
/// The folder can't be read.
pub fn list(state: &Path) -> Result<Vec<ListedRun>, OpenError> {
    #[cfg(feature = "s3")]
    if let Some(address) = state.to_str().filter(|text| s3::is_address(text)) {
        return in_store(&Store::from_env(address)?);
    }
    let entries = fs::read_dir(state).map_err(DiskError::at(state, Doing::Listed))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| state.join(name).is_dir())
        .collect();
    names.sort_unstable();
    let listed = names.into_iter().filter_map(|name| {
        let folder = state.join(&name);
        listed(&mut FileSystem::new(&folder), name, |_| owner_of(&folder))
    });
    Ok(listed.collect())
}

/// All runs in a store, by name.
#[cfg(feature = "s3")]
fn in_store(store: &Store) -> Result<Vec<ListedRun>, OpenError> {
    let mut names = store.runs()?;
    names.sort_unstable();
    let listed = names.into_iter().filter_map(|name| {
        let mut disk = s3::S3Disk::reader(store.run(&name));
        listed(&mut disk, name, |newest| s3::owner_in(newest, now_ms()))
    });
    Ok(listed.collect())
}

/// The run in a folder; none where there is none. `owner_of` says who owns it, given its `newest.json`.
fn listed(disk: &mut dyn Disk, name: String, owner_of: impl Fn(&[u8]) -> Option<Owner>) -> Option<ListedRun> {
    let mut problem = None;
    let identity = match disk.read(identity::FILE) {
        Ok(json) => Identity::from_json(&json).map_err(|problem| problem.to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => Err(error.to_string()),
    };
    let identity = identity
        .inspect_err(|what| problem = Some(format!("{}: {what}", disk.path(identity::FILE).display())))
        .ok();
    let json = disk.read(newest::FILE).unwrap_or_default();
    let newest = Newest::from_json(&json);
    let owner = owner_of(&json);
    let files = disk.list().unwrap_or_default();
    let newest = newest.as_ref();
    Some(ListedRun {
        name,
        state: word(newest.map(|newest| newest.state), owner.is_some()),
        samples: newest.map_or(0, |newest| newest.samples),
        version: newest.map_or(0, |newest| newest.version),
        accuracy: newest.and_then(|newest| newest.accuracy),
        bytes: files.iter().filter_map(|file| disk.length(file).ok()).sum(),
        created_at_ms: identity.map(|identity| identity.created_at_ms),
        written_at_ms: newest.map(|newest| newest.written_at_ms),
        owner,
        problem,
    })
}

/// A run that says of itself that it trains, but that nobody owns, was killed.
fn word(state: Option<RunState>, is_owned: bool) -> &'static str {
    match (state, is_owned) {
        (Some(RunState::Training) | None, true) => "training",
        (Some(RunState::Training), false) => "interrupted",
        (Some(RunState::Finished), _) => "finished",
        (Some(RunState::Diverged), _) => "diverged",
        (Some(RunState::Stopped), _) => "stopped",
        (None, false) => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::tests::checkpoint;
    use crate::folder::{Folder, Options};
    use crate::identity::Wanted;
    use crate::identity::tests::identity;

    #[test]
    fn runs_are_listed_with_how_they_stand_and_who_owns_them() {
        let state = tempfile::tempdir().expect("a folder");
        let open = |name: &str| {
            let wanted = Wanted {
                run: name.to_owned(),
                ..identity().run
            };
            let options = Options {
                state: state.path(),
                wanted: &wanted,
                keep: 2,
                is_fresh: false,
                fork: None,
                compare: &|_, _| Vec::new(),
                adapt: &|_| None,
            };
            Folder::open(&options).expect("opens")
        };
        let mut finished = open("finished");
        let state_of_run = RunState::Finished;
        finished
            .folder
            .write(&checkpoint(), Some(0.875), state_of_run)
            .expect("writes");
        drop(finished);
        let _training = open("training");
        drop(open("killed"));
        fs::create_dir(state.path().join("no-run")).expect("creates");
        drop(open("broken"));
        fs::write(state.path().join("broken/run.json"), "{").expect("writes");

        let runs = list(state.path()).expect("lists");
        let words: Vec<(&str, &str)> = runs.iter().map(|run| (&run.name[..], run.state)).collect();
        let expected = [
            ("broken", "interrupted"),
            ("finished", "finished"),
            ("killed", "interrupted"),
            ("training", "training"),
        ];
        assert_eq!(words, expected);
        assert!(
            runs[0]
                .problem
                .as_ref()
                .is_some_and(|problem| problem.contains("broken/run.json: it is damaged"))
        );
        let finished = &runs[1];
        assert_eq!(
            (finished.samples, finished.version, finished.accuracy),
            (764, 41, Some(0.875))
        );
        assert!(finished.bytes > 1000 && finished.owner.is_none() && finished.problem.is_none());
        assert!(
            runs[3]
                .owner
                .as_ref()
                .is_some_and(|owner| owner.process == std::process::id())
        );
        let error = list(&state.path().join("gone")).expect_err("nothing there").to_string();
        assert!(error.contains("gone: can't be listed: No such file"), "{error}");
    }
}
