//! A disk in memory that loses, tears, damages and refuses what a real one can.
//!
//! What is written lies in the system's memory first, and outlives a process that is killed. What was synced outlives a
//! machine that stops, too; of the rest, some part does. Faults that no sync helps against ([`Lie`]) are made on
//! request.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use state::disk::WriteContent;
use state::{Access, Disk};

use crate::random::Random;

/// The disk; its clones are the same disk.
#[derive(Clone, Default)]
pub struct SimulatedDisk(Arc<Mutex<Files>>);

#[derive(Default)]
struct Files {
    contents: Vec<Content>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// The names after each change since the folder was synced. What a machine that stops leaves is one of these.
    unsynced_names: Vec<BTreeMap<String, usize>>,
    /// The content that each name had before its last change.
    earlier: BTreeMap<String, Vec<u8>>,
    /// Bytes that all files may take; without it: any number.
    room: Option<usize>,
    /// Changes that still succeed. The one after them is done in part, and then the process is dead.
    changes_left: Option<u64>,
    /// Changes that fail from now on.
    failures: u64,
    /// Files that can't be read until the next start.
    unreadable: Option<String>,
}

#[derive(Clone, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
}

/// A fault of a disk that says that a file is there for good, and then has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// The file is as it was before its last change, or gone if it was new.
    Earlier,
    /// One of its bits is another.
    FlippedBit,
    /// Its end is missing.
    CutShort,
    /// It can't be read, and then it can.
    Unreadable,
}

impl SimulatedDisk {
    /// All files together may take this many bytes more than they do now. `None`: any number.
    pub fn leave_room(&self, bytes: Option<usize>) {
        let mut files = self.files();
        files.room = bytes.map(|bytes| files.taken() + bytes);
    }

    /// The next changes fail, this many of them.
    pub fn fail_next(&self, changes: u64) {
        self.files().failures = changes;
    }

    /// The process that writes is killed after this many changes more, in the middle of the next one. `None`: it is a
    /// new process.
    pub(crate) fn kill_after(&self, changes: Option<u64>) {
        self.files().changes_left = changes;
    }

    /// A start has ended: what could not be read for a while can be read again.
    pub(crate) fn heal(&self) {
        self.files().unreadable = None;
    }

    /// The machine stops, and starts again. What was synced is there. Of the rest, some part is. Returns the names of
    /// files, as they were before, that are gone, have another name or another content.
    pub(crate) fn stop(&self, random: &mut Random) -> Vec<String> {
        let mut files = self.files();
        let before = files.names.clone();
        let mut changed = BTreeSet::new();
        let moments = files.unsynced_names.len() as u64;
        let names = match random.below(moments + 1) {
            0 => files.durable_names.clone(),
            moment => files.unsynced_names[moment as usize - 1].clone(),
        };
        (files.durable_names, files.names) = (names.clone(), names);
        files.unsynced_names.clear();
        for (index, content) in files.contents.iter_mut().enumerate() {
            if content.now == content.durable {
                continue;
            }
            let written = content.now.clone();
            let left = random.below(content.now.len() as u64 + 1) as usize;
            match random.below(4) {
                0 => content.now.truncate(left),
                // Its length was written, and its data was not.
                1 => content.now[left..].fill(0),
                2 => {}
                _ => content.now = content.durable.clone(),
            }
            content.durable = content.now.clone();
            if content.now != written {
                changed.insert(index);
            }
        }
        let is_torn = |name: &String, index: &usize| changed.contains(index) || files.names.get(name) != Some(index);
        let torn = before.iter().filter(|(name, index)| is_torn(name, index));
        torn.map(|(name, _)| name.clone()).collect()
    }

    /// The disk lies about this file. Returns whether it is there.
    pub fn lie(&self, file: &str, lie: Lie, random: &mut Random) -> bool {
        let mut files = self.files();
        let Some(index) = files.names.get(file).copied() else {
            return false;
        };
        let bytes = &mut files.contents[index].now;
        match lie {
            Lie::Unreadable => files.unreadable = Some(file.to_owned()),
            Lie::Earlier => match files.earlier.remove(file) {
                Some(earlier) => files.contents[index].now = earlier,
                None => {
                    files.names.remove(file);
                    files.durable_names.remove(file);
                }
            },
            Lie::FlippedBit if !bytes.is_empty() => {
                let bit = random.below(bytes.len() as u64 * 8);
                bytes[bit as usize / 8] ^= 1 << (bit % 8);
            }
            Lie::FlippedBit | Lie::CutShort => {
                let left = random.below(bytes.len() as u64 + 1) as usize;
                bytes.truncate(left);
            }
        }
        files.contents[index].durable = files.contents[index].now.clone();
        true
    }

    /// The names of all files.
    pub fn names(&self) -> Vec<String> {
        self.files().names.keys().cloned().collect()
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> usize {
        self.files().taken()
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a change goes.
enum Change {
    Whole,
    /// The process is killed in the middle of it.
    Part,
}

impl Files {
    fn taken(&self) -> usize {
        self.names.values().map(|index| self.contents[*index].now.len()).sum()
    }

    /// A change begins.
    fn begin(&mut self) -> io::Result<Change> {
        match self.changes_left {
            Some(0) => {
                self.changes_left = Some(u64::MAX);
                return Ok(Change::Part);
            }
            Some(u64::MAX) => return Err(io::Error::other("the process is dead")),
            Some(left) => self.changes_left = Some(left - 1),
            None => {}
        }
        if self.failures > 0 {
            self.failures -= 1;
            return Err(io::Error::other("the disk fails"));
        }
        Ok(Change::Whole)
    }

    fn index(&self, file: &str) -> io::Result<usize> {
        self.names.get(file).copied().ok_or(io::ErrorKind::NotFound.into())
    }

    fn change_names(&mut self, change: impl FnOnce(&mut BTreeMap<String, usize>)) {
        change(&mut self.names);
        self.unsynced_names.push(self.names.clone());
    }

    /// Puts bytes behind the first `from` of a file, which is created where it is missing. Returns whether they had
    /// room.
    fn put(&mut self, file: &str, from: Option<usize>, bytes: &[u8]) -> bool {
        let index = match self.names.get(file) {
            Some(index) => *index,
            None => {
                self.contents.push(Content::default());
                let index = self.contents.len() - 1;
                self.change_names(|names| {
                    names.insert(file.to_owned(), index);
                });
                index
            }
        };
        let content = &mut self.contents[index].now;
        content.truncate(from.unwrap_or(usize::MAX));
        let room = self.room.map_or(usize::MAX, |room| room.saturating_sub(self.taken()));
        let fits = bytes.len() <= room;
        self.contents[index].now.extend(&bytes[..bytes.len().min(room)]);
        fits
    }

    /// A change of a content ends.
    fn finish_put(change: &Change, fits: bool) -> io::Result<()> {
        match (change, fits) {
            (Change::Part, _) => killed(),
            (Change::Whole, false) => Err(io::ErrorKind::StorageFull.into()),
            (Change::Whole, true) => Ok(()),
        }
    }
}

fn killed<T>() -> io::Result<T> {
    Err(io::Error::other("the process is killed"))
}

impl Disk for SimulatedDisk {
    fn write(&mut self, file: &str, _: Access, content: &mut WriteContent<'_>) -> io::Result<()> {
        let mut bytes = Vec::new();
        content(&mut bytes)?;
        let mut files = self.files();
        let change = files.begin()?;
        let length = match change {
            Change::Whole => bytes.len(),
            Change::Part => bytes.len() / 2,
        };
        let fits = files.put(file, Some(0), &bytes[..length]);
        Files::finish_put(&change, fits)
    }

    fn append(&mut self, file: &str, bytes: &[u8]) -> io::Result<()> {
        let mut files = self.files();
        let change = files.begin()?;
        let length = match change {
            Change::Whole => bytes.len(),
            Change::Part => bytes.len() / 2,
        };
        let fits = files.put(file, None, &bytes[..length]);
        Files::finish_put(&change, fits)
    }

    fn sync(&mut self, file: &str) -> io::Result<()> {
        let mut files = self.files();
        let index = files.index(file)?;
        match files.begin()? {
            Change::Part => return killed(),
            Change::Whole => {}
        }
        files.contents[index].durable = files.contents[index].now.clone();
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files();
        let index = files.index(from)?;
        let change = files.begin()?;
        if let Some(replaced) = files.names.get(to).copied() {
            let earlier = files.contents[replaced].now.clone();
            files.earlier.insert(to.to_owned(), earlier);
        }
        files.change_names(|names| {
            names.remove(from);
            names.insert(to.to_owned(), index);
        });
        Files::finish_put(&change, true)
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        let mut files = self.files();
        match files.begin()? {
            Change::Part => return killed(),
            Change::Whole => {}
        }
        files.durable_names = files.names.clone();
        files.unsynced_names.clear();
        Ok(())
    }

    fn read(&mut self, file: &str) -> io::Result<Vec<u8>> {
        let files = self.files();
        if files.unreadable.as_deref() == Some(file) {
            return Err(io::Error::other("the disk can't read this"));
        }
        Ok(files.contents[files.index(file)?].now.clone())
    }

    fn list(&mut self) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn length(&mut self, file: &str) -> io::Result<u64> {
        let files = self.files();
        Ok(files.contents[files.index(file)?].now.len() as u64)
    }

    fn remove(&mut self, file: &str) -> io::Result<()> {
        let mut files = self.files();
        files.index(file)?;
        let change = files.begin()?;
        files.change_names(|names| {
            names.remove(file);
        });
        Files::finish_put(&change, true)
    }

    fn path(&self, file: &str) -> PathBuf {
        PathBuf::from("state").join(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(disk: &mut SimulatedDisk, file: &str, bytes: &[u8]) {
        disk.write(file, Access::Default, &mut |to| to.write_all(bytes))
            .expect("it has room");
    }

    #[test]
    fn what_was_synced_is_there_after_the_machine_stopped_and_other_things_may_be_lost_or_torn() {
        let mut outcomes = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut disk = SimulatedDisk::default();
            write(&mut disk, "synced", b"for good");
            disk.sync("synced").expect("it is there");
            disk.sync_folder().expect("it works");
            write(&mut disk, "unsynced", b"perhaps");
            disk.rename("synced", "renamed").expect("it is there");
            disk.stop(&mut Random::new(seed));
            let synced = disk.read("synced").or_else(|_| disk.read("renamed"));
            assert_eq!(synced.expect("the name before or after"), b"for good");
            outcomes.insert((disk.names(), disk.read("unsynced").ok()));
        }
        assert!(outcomes.len() > 10, "many things can happen: {outcomes:?}");
    }

    #[test]
    fn a_full_disk_takes_a_part_and_says_so() {
        let mut disk = SimulatedDisk::default();
        disk.leave_room(Some(3));
        let full = disk.write("file", Access::Default, &mut |to| to.write_all(b"12345"));
        assert_eq!(full.expect_err("no room").kind(), io::ErrorKind::StorageFull);
        assert_eq!(disk.read("file").expect("a part is there"), b"123");
        disk.leave_room(None);
        write(&mut disk, "file", b"12345");
    }

    #[test]
    fn a_process_that_is_killed_does_a_change_in_part_and_nothing_more() {
        let mut disk = SimulatedDisk::default();
        disk.kill_after(Some(1));
        write(&mut disk, "first", b"1234");
        assert!(disk.append("first", b"5678").is_err());
        assert!(disk.sync_folder().is_err());
        assert_eq!(disk.read("first").expect("it is there"), b"123456");
    }
}
