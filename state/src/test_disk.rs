//! A disk in memory that forgets what was not synced, and that fails after some number of operations.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crate::disk::{Access, Disk, WriteContent};

/// The disk; its clones are the same disk.
#[derive(Clone, Default)]
pub(crate) struct TestDisk(Arc<Mutex<Files>>);

#[derive(Default)]
struct Files {
    contents: Vec<Content>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// Operations that still succeed; without it: all.
    operations_left: Option<usize>,
    /// Bytes that still fit; without it: any number.
    room: Option<usize>,
}

#[derive(Clone, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
}

impl TestDisk {
    /// From now on so many operations succeed. The one after them is done by half, and then nothing works.
    pub(crate) fn fail_after(&self, operations: usize) {
        self.files().operations_left = Some(operations);
    }

    /// From now on so many bytes fit.
    pub(crate) fn limit_room(&self, bytes: Option<usize>) {
        self.files().room = bytes;
    }

    /// The machine stops and starts again. What was not synced is there, or not.
    pub(crate) fn crash(&self, keeps_unsynced: bool) {
        let mut files = self.files();
        files.operations_left = None;
        if keeps_unsynced {
            return;
        }
        files.names = files.durable_names.clone();
        for content in &mut files.contents {
            content.now = content.durable.clone();
        }
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.files().names.keys().cloned().collect()
    }

    /// Changes a file behind the back of everybody.
    pub(crate) fn change(&self, file: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut files = self.files();
        let index = files.names[file];
        change(&mut files.contents[index].now);
        files.contents[index].durable = files.contents[index].now.clone();
    }

    fn files(&self) -> std::sync::MutexGuard<'_, Files> {
        self.0.lock().expect("no test panics with it")
    }
}

impl Files {
    /// Whether this operation is done wholly, or by half as the last one.
    fn count(&mut self) -> io::Result<bool> {
        match &mut self.operations_left {
            None => Ok(true),
            Some(0) => {
                self.operations_left = Some(usize::MAX);
                Ok(false)
            }
            Some(usize::MAX) => Err(io::Error::other("the machine has stopped")),
            Some(left) => {
                *left -= 1;
                Ok(true)
            }
        }
    }

    fn index(&self, file: &str) -> io::Result<usize> {
        self.names.get(file).copied().ok_or(io::ErrorKind::NotFound.into())
    }

    fn create(&mut self, file: &str) -> usize {
        if let Some(index) = self.names.get(file) {
            return *index;
        }
        self.contents.push(Content::default());
        let index = self.contents.len() - 1;
        self.names.insert(file.to_owned(), index);
        index
    }
}

fn stopped<T>() -> io::Result<T> {
    Err(io::Error::other("the machine stops"))
}

impl Disk for TestDisk {
    fn write(&mut self, file: &str, _access: Access, content: &mut WriteContent<'_>) -> io::Result<()> {
        let mut bytes = Vec::new();
        content(&mut bytes)?;
        let mut files = self.files();
        let is_whole = files.count()?;
        let index = files.create(file);
        let fits = files.room.is_none_or(|room| bytes.len() <= room);
        if !is_whole || !fits {
            bytes.truncate(bytes.len() / 2);
        }
        files.contents[index].now = bytes;
        match (is_whole, fits) {
            (true, true) => Ok(()),
            (true, false) => Err(io::ErrorKind::StorageFull.into()),
            (false, _) => stopped(),
        }
    }

    fn append(&mut self, file: &str, bytes: &[u8]) -> io::Result<()> {
        let mut files = self.files();
        let is_whole = files.count()?;
        let fits = files.room.is_none_or(|room| bytes.len() <= room);
        let index = files.create(file);
        let length = if is_whole && fits { bytes.len() } else { bytes.len() / 2 };
        files.contents[index].now.extend(&bytes[..length]);
        match (is_whole, fits) {
            (true, true) => Ok(()),
            (true, false) => Err(io::ErrorKind::StorageFull.into()),
            (false, _) => stopped(),
        }
    }

    fn sync(&mut self, file: &str) -> io::Result<()> {
        let mut files = self.files();
        if !files.count()? {
            return stopped();
        }
        let index = files.index(file)?;
        files.contents[index].durable = files.contents[index].now.clone();
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files();
        if !files.count()? {
            return stopped();
        }
        let index = files.index(from)?;
        files.names.remove(from);
        files.names.insert(to.to_owned(), index);
        Ok(())
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        let mut files = self.files();
        if !files.count()? {
            return stopped();
        }
        files.durable_names = files.names.clone();
        Ok(())
    }

    fn read(&mut self, file: &str) -> io::Result<Vec<u8>> {
        let files = self.files();
        Ok(files.contents[files.index(file)?].now.clone())
    }

    fn list(&mut self) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn length(&mut self, file: &str) -> io::Result<u64> {
        Ok(self.read(file)?.len() as u64)
    }

    fn remove(&mut self, file: &str) -> io::Result<()> {
        let mut files = self.files();
        if !files.count()? {
            return stopped();
        }
        files
            .names
            .remove(file)
            .map(|_| ())
            .ok_or(io::ErrorKind::NotFound.into())
    }

    fn path(&self, file: &str) -> PathBuf {
        PathBuf::from("state/digits").join(file)
    }
}
