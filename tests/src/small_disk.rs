//! A small disk of its own for a server's state: it can be full, and read-only, as root's files can't be otherwise.
//!
//! It is a tmpfs in a namespace of mounts that belongs to the test: when the test ends, however it ends, the disk is
//! gone.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// How a shell starts a program that sees the disk, with [`SmallDisk::environment`].
pub const ON_THE_DISK: &str = r#"exec nsenter $NAMESPACES --target "$DISK" "$@""#;

/// A mounted disk.
pub struct SmallDisk {
    /// Its namespace lives as long as this process, which ends with its standard input.
    holder: Child,
    namespaces: &'static str,
    directory: TempDir,
}

impl SmallDisk {
    /// A disk of this many KiB; none where this machine lets the test mount nothing, which is printed.
    ///
    /// # Errors
    /// Programs that are missing.
    pub fn mount(kilobytes: u32) -> Result<Option<SmallDisk>> {
        // As root, or as anybody who may have a namespace of users.
        let ways: [(&[&str], &str); 2] = [
            (&["--mount"], "--mount"),
            (
                &["--user", "--map-root-user", "--mount"],
                "--user --preserve-credentials --mount",
            ),
        ];
        for (arguments, namespaces) in ways {
            let directory = TempDir::new()?;
            let mut command = Command::new("unshare");
            command.args(arguments).args(["bash", "-c"]);
            command.arg(r#"mount -t tmpfs -o size="$1"k tmpfs "$2" && echo mounted && exec cat"#);
            command.arg("bash").arg(kilobytes.to_string()).arg(directory.path());
            let mut holder = command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .context("unshare can't be started; install util-linux")?;
            let mut line = String::new();
            BufReader::new(holder.stdout.take().context("its output")?).read_line(&mut line)?;
            let disk = SmallDisk {
                holder,
                namespaces,
                directory,
            };
            if line == "mounted\n" {
                return Ok(Some(disk));
            }
        }
        println!("this machine lets the test mount nothing: not tested here");
        Ok(None)
    }

    /// The disk's folder, as the programs on it see it.
    pub fn folder(&self) -> &Path {
        self.directory.path()
    }

    /// The same, as this test sees it.
    pub fn from_outside(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(self.folder().strip_prefix("/").unwrap_or(self.folder()))
    }

    /// What [`ON_THE_DISK`] needs.
    pub fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        vec![
            ("DISK", self.holder.id().to_string().into()),
            ("NAMESPACES", self.namespaces.into()),
        ]
    }

    /// Writes a file until the disk is full.
    ///
    /// # Errors
    /// A disk that does not get full.
    pub fn fill(&self) -> Result<()> {
        let mut filler = std::fs::File::create(self.from_outside().join("filler"))?;
        let ended = loop {
            if let Err(error) = filler.write_all(&[0; 1024]) {
                break error;
            }
        };
        ensure!(ended.kind() == std::io::ErrorKind::StorageFull, "{ended}");
        Ok(())
    }

    /// Takes that file away.
    ///
    /// # Errors
    /// A disk that was not filled.
    pub fn make_room(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.from_outside().join("filler"))?)
    }

    /// Nothing new can be written from here on; what is open stays open.
    ///
    /// # Errors
    /// The system's.
    pub fn make_read_only(&self) -> Result<()> {
        // A disk with open files can't become read-only as a whole, but a second mount above it can.
        self.run(r#"mount --bind "$1" "$1" && mount -o remount,bind,ro "$1""#)
    }

    /// Takes that back.
    ///
    /// # Errors
    /// The system's.
    pub fn make_writable(&self) -> Result<()> {
        self.run(r#"umount "$1""#)
    }

    /// Runs a script in its namespace, with the folder as `$1`.
    fn run(&self, script: &str) -> Result<()> {
        let mut command = Command::new("nsenter");
        command.args(self.namespaces.split(' ')).arg("--target");
        command.arg(self.holder.id().to_string());
        command.args(["bash", "-c", script, "bash"]).arg(self.folder());
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{script}: {said}");
        Ok(())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
