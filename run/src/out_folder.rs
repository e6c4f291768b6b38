//! The folder that a run leaves its model and its summary in.
//!
//! What was trained before stays: results of another run that lie in the folder get names of their own. A run that made
//! no version leaves them where they are.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::model_file::{About, WriteError, about_model_file, write_whole};

/// The model's file, as `safetensors`.
pub const MODEL: &str = "model.safetensors";
/// The best evaluated model, where one is kept and the model's file holds another one.
pub const BEST: &str = "best.safetensors";
/// What is known of the run, as JSON.
pub const SUMMARY: &str = "summary.json";

/// What a run leaves.
#[derive(Clone, Copy, Debug)]
pub struct Results<'a> {
    /// What the model's file says of it.
    pub about: &'a About,
    /// The run's own number, as the summary says it. Its earlier results are replaced.
    pub run_id: &'a str,
    /// The model's file.
    pub model: &'a [u8],
    /// The best model's file, if that is another model.
    pub best: Option<&'a [u8]>,
    /// The summary.
    pub summary: &'a [u8],
}

/// What was done with results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// They are here.
    Written {
        /// The model, the summary, and the best model if there is another one.
        paths: Vec<PathBuf>,
        /// Where the results that lay there are now, and what they are, if they were of another run.
        kept: Option<Kept>,
    },
    /// The run made no version, and a model of another run is there: nothing was written.
    Nothing(Kept),
}

/// A model of another run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its file.
    pub path: PathBuf,
    /// What the file says of it; `None` if it is no model of ours.
    pub about: Option<About>,
}

/// What a summary says of its run. Summaries of earlier versions don't have all of it.
#[derive(Deserialize)]
struct Identity {
    run_id: String,
    model_version: u64,
}

/// Makes the folder, and tries whether files of this many bytes can be written there.
///
/// # Errors
/// What the system says against it.
pub fn probe(folder: &Path, bytes: usize) -> Result<(), WriteError> {
    let probe = folder.join(format!(".superstep-{}", std::process::id()));
    let tried = fs::create_dir_all(folder).and_then(|()| write_zeros(&probe, bytes));
    // What is there of it goes, however far it came.
    let removed = fs::remove_file(&probe);
    tried.and(removed).map_err(|source| WriteError {
        path: folder.to_owned(),
        source,
    })
}

fn write_zeros(path: &Path, bytes: usize) -> io::Result<()> {
    let zeros = [0; 1 << 16];
    let mut file = File::create(path)?;
    let mut left = bytes;
    while left > 0 {
        let part = left.min(zeros.len());
        file.write_all(&zeros[..part])?;
        left -= part;
    }
    Ok(())
}

/// Leaves the results in this folder.
///
/// # Errors
/// What the system says against it. What lay there is then where it was.
pub fn leave(folder: &Path, results: &Results<'_>) -> Result<Left, WriteError> {
    fs::create_dir_all(folder).map_err(|source| WriteError {
        path: folder.to_owned(),
        source,
    })?;
    let paths = [MODEL, SUMMARY, BEST].map(|name| folder.join(name));
    let earlier = Earlier::look(&paths, results);
    if let (0, Some(earlier)) = (results.about.version, &earlier) {
        return Ok(Left::Nothing(Kept {
            path: paths[0].clone(),
            about: earlier.about.clone(),
        }));
    }
    let moved = match &earlier {
        Some(earlier) => earlier.move_aside(folder, &paths)?,
        None => Vec::new(),
    };
    let written = write_all(folder, &paths, results);
    if let Err(error) = written {
        for (from, to) in moved {
            // A folder that takes no files may take no names either; the results have the names that they have.
            let _ = fs::rename(to, from);
        }
        return Err(error);
    }
    let kept = earlier.zip(moved.into_iter().next()).map(|(earlier, (_, path))| Kept {
        path,
        about: earlier.about,
    });
    let best = results.best.map(|_| folder.join(BEST));
    let paths = paths.into_iter().take(2).chain(best).collect();
    Ok(Left::Written { paths, kept })
}

/// Writes the files. Where the model is the best one itself, an earlier best one of the run is not left beside it.
fn write_all(folder: &Path, paths: &[PathBuf; 3], results: &Results<'_>) -> Result<(), WriteError> {
    let [model, summary, best] = paths;
    write_whole(model, results.model)?;
    match results.best {
        Some(bytes) => write_whole(best, bytes)?,
        None if fs::symlink_metadata(folder.join(BEST)).is_ok() => write_whole(best, results.model)?,
        None => {}
    }
    write_whole(summary, results.summary)
}

/// A model of another run that is in the folder.
struct Earlier {
    about: Option<About>,
}

impl Earlier {
    /// None if there is no model, the same model, or an earlier one of the same run.
    fn look(paths: &[PathBuf; 3], results: &Results<'_>) -> Option<Earlier> {
        if fs::symlink_metadata(&paths[0]).is_err() {
            return None;
        }
        // What can't be read is kept, too.
        let model = fs::read(&paths[0]).unwrap_or_default();
        let about = about_model_file(&model);
        let identity = fs::read(&paths[1]).ok();
        let identity = identity.and_then(|summary| serde_json::from_slice::<Identity>(&summary).ok());
        let is_of_this_run = identity.is_some_and(|identity| {
            identity.run_id == results.run_id
                && identity.model_version <= results.about.version
                && about
                    .as_ref()
                    .is_some_and(|about| about.version == identity.model_version)
        });
        (!is_of_this_run && model != results.model).then_some(Earlier { about })
    }

    /// Gives its files other names, and returns the old and the new ones, the model's first.
    fn move_aside(&self, folder: &Path, paths: &[PathBuf; 3]) -> Result<Vec<(PathBuf, PathBuf)>, WriteError> {
        let names = self.free_names(folder);
        let mut moved = Vec::new();
        for (from, to) in paths.iter().zip(names) {
            match fs::rename(from, &to) {
                Ok(()) => moved.push((from.clone(), to)),
                // A model without a summary, or without another one that was the best.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => {
                    let path = to;
                    return Err(WriteError { path, source });
                }
            }
        }
        Ok(moved)
    }

    fn free_names(&self, folder: &Path) -> [PathBuf; 3] {
        let name = match &self.about {
            Some(About { run, version, .. }) => format!("{}-{version}", in_a_file_name(run)),
            None => "earlier".to_owned(),
        };
        let mut number = 1;
        loop {
            let name = if number == 1 {
                name.clone()
            } else {
                format!("{name}-{number}")
            };
            let names = [
                format!("model-{name}.safetensors"),
                format!("summary-{name}.json"),
                format!("best-{name}.safetensors"),
            ];
            let names = names.map(|name| folder.join(name));
            if names.iter().all(|path| fs::symlink_metadata(path).is_err()) {
                return names;
            }
            number += 1;
        }
    }
}

/// Where else this run's results may go, the best first: new folders where the program was started, and among temporary
/// files.
pub fn elsewhere(run: &str) -> impl Iterator<Item = PathBuf> {
    let parents = [std::env::current_dir().ok(), Some(std::env::temp_dir())];
    parents
        .into_iter()
        .flatten()
        .map(move |parent| new_folder(&parent, run))
}

fn new_folder(parent: &Path, run: &str) -> PathBuf {
    let name = format!("superstep-{}", in_a_file_name(run));
    let mut number = 1;
    loop {
        let folder = match number {
            1 => parent.join(&name),
            number => parent.join(format!("{name}-{number}")),
        };
        if fs::symlink_metadata(&folder).is_err() {
            return folder;
        }
        number += 1;
    }
}

/// A run's name with nothing that a system might not take in a file's name.
fn in_a_file_name(run: &str) -> String {
    let name = run.chars().take(64).map(|letter| match letter {
        letter if letter.is_alphanumeric() || "-_".contains(letter) => letter,
        _ => '_',
    });
    let name: String = name.collect();
    if name.is_empty() { "run".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model_file::model_file;
    use crate::run_file::RunFile;
    use nn::Model;

    /// The files of a version of a run.
    struct Files {
        about: About,
        run_id: String,
        model: Vec<u8>,
        summary: Vec<u8>,
    }

    fn files(run: &str, version: u64, run_id: &str) -> Files {
        let model = Model::new(&RunFile::digits().unwrap().model).unwrap();
        let about = About {
            run: run.to_owned(),
            version,
            samples: 128 * version,
        };
        Files {
            model: model_file(&model, &model.initial_parameters(version), None, &about).unwrap(),
            summary: format!(r#"{{"run_id": "{run_id}", "model_version": {version}, "more": 1}}"#).into_bytes(),
            about,
            run_id: run_id.to_owned(),
        }
    }

    fn leave_in(folder: &Path, files: &Files) -> Left {
        let results = Results {
            about: &files.about,
            run_id: &files.run_id,
            model: &files.model,
            best: None,
            summary: &files.summary,
        };
        leave(folder, &results).unwrap()
    }

    fn listing(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn results_of_another_run_get_names_of_their_own_and_nothing_is_lost() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("out");
        let first = files("a/b", 7, "01");
        leave_in(&folder, &first);
        for (number, run_id) in [(2, "02"), (3, "03")] {
            leave_in(&folder, &files("a/b", 7 + number, run_id));
        }
        // The same name and version as one that is kept.
        leave_in(&folder, &files("c", 1, "04"));
        fs::copy(folder.join("model-a_b-7.safetensors"), folder.join(MODEL)).unwrap();
        let left = leave_in(&folder, &files("c", 2, "05"));
        assert_eq!(
            left,
            Left::Written {
                paths: [MODEL, SUMMARY].map(|name| folder.join(name)).to_vec(),
                kept: Some(Kept {
                    path: folder.join("model-a_b-7-2.safetensors"),
                    about: Some(first.about)
                })
            }
        );
        assert_eq!(fs::read(folder.join("model-a_b-7.safetensors")).unwrap(), first.model);
        assert_eq!(fs::read(folder.join("summary-a_b-7.json")).unwrap(), first.summary);
        assert_eq!(listing(&folder).len(), 10, "{:?}", listing(&folder));
    }

    #[test]
    fn a_run_that_goes_on_replaces_its_own_results_and_no_later_ones() {
        let directory = tempfile::tempdir().unwrap();
        for version in [3, 3, 9] {
            let left = leave_in(directory.path(), &files("digits", version, "01"));
            assert!(matches!(left, Left::Written { kept: None, .. }), "{left:?}");
        }
        assert_eq!(listing(directory.path()), [MODEL, SUMMARY]);
        let left = leave_in(directory.path(), &files("digits", 5, "01"));
        assert!(matches!(left, Left::Written { kept: Some(_), .. }), "{left:?}");
    }

    #[test]
    fn the_best_model_lies_beside_another_last_one_and_is_never_older_than_its_run() {
        let directory = tempfile::tempdir().unwrap();
        let leave_with = |files: &Files, best: Option<&Files>| {
            let results = Results {
                about: &files.about,
                run_id: &files.run_id,
                model: &files.model,
                best: best.map(|best| &best.model[..]),
                summary: &files.summary,
            };
            leave(directory.path(), &results).unwrap()
        };
        let (best, last) = (files("digits", 5, "01"), files("digits", 9, "01"));
        let left = leave_with(&last, Some(&best));
        assert!(
            matches!(left, Left::Written { ref paths, .. } if paths.len() == 3),
            "{left:?}"
        );
        assert_eq!(fs::read(directory.path().join(BEST)).unwrap(), best.model);
        // The run goes on, and its last model is the best one.
        let last = files("digits", 12, "01");
        leave_with(&last, None);
        assert_eq!(fs::read(directory.path().join(BEST)).unwrap(), last.model);
        // Another run's results leave it as it is, under another name.
        leave_with(&files("others", 3, "02"), None);
        let kept = directory.path().join("best-digits-12.safetensors");
        assert_eq!(fs::read(kept).unwrap(), last.model);
        assert!(!directory.path().join(BEST).exists());
    }

    #[test]
    fn a_run_without_a_version_moves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let trained = files("digits", 9, "01");
        leave_in(directory.path(), &trained);
        let left = leave_in(directory.path(), &files("digits", 0, "02"));
        let kept = Kept {
            path: directory.path().join(MODEL),
            about: Some(trained.about),
        };
        assert_eq!(left, Left::Nothing(kept));
        assert_eq!(fs::read(directory.path().join(MODEL)).unwrap(), trained.model);
        assert_eq!(listing(directory.path()), [MODEL, SUMMARY]);
    }

    #[test]
    fn a_file_that_is_no_model_is_kept_too() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(MODEL), "a letter").unwrap();
        leave_in(directory.path(), &files("digits", 1, "01"));
        assert_eq!(listing(directory.path()), ["model-earlier.safetensors", MODEL, SUMMARY]);
    }

    #[test]
    fn what_cant_be_written_leaves_the_earlier_results_where_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let earlier = files("digits", 9, "01");
        leave_in(directory.path(), &earlier);
        // In the way of the file as which the model is written first.
        fs::create_dir(directory.path().join("model.safetensors.part")).unwrap();
        let files = files("digits", 1, "02");
        let results = Results {
            about: &files.about,
            run_id: &files.run_id,
            model: &files.model,
            best: None,
            summary: &files.summary,
        };
        leave(directory.path(), &results).unwrap_err();
        assert_eq!(fs::read(directory.path().join(MODEL)).unwrap(), earlier.model);
        assert_eq!(fs::read(directory.path().join(SUMMARY)).unwrap(), earlier.summary);
    }

    #[test]
    fn a_folder_is_tried_without_a_trace() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("a/b");
        probe(&folder, 200_000).unwrap();
        assert!(listing(&folder).is_empty());
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let error = probe(&file, 1).unwrap_err();
        assert_eq!(error.path, file);
        assert_eq!(new_folder(directory.path(), "a"), directory.path().join("superstep-a"));
        fs::create_dir(directory.path().join("superstep-a")).unwrap();
        assert_eq!(
            new_folder(directory.path(), "a"),
            directory.path().join("superstep-a-2")
        );
    }
}
