//! Where segments lie: a directory, or a disk that a simulation makes fail.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

/// Space taken at a segment's creation, so that a full disk shows before a writer is accepted.
const HEADROOM_BYTES: u64 = 1 << 20;

/// A place for segments. File names contain no separators.
pub trait LogDisk: Send + Sync + Debug {
    /// The names of all segments, in no order.
    ///
    /// # Errors
    /// Whatever the disk said.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens a segment for reading.
    ///
    /// # Errors
    /// Whatever the disk said.
    fn open(&self, name: &str) -> io::Result<Box<dyn SegmentBytes>>;

    /// Creates a segment; the directory's entry is durable afterwards.
    ///
    /// # Errors
    /// `AlreadyExists`, or whatever the disk said; `StorageFull` when there is no room for a segment to start.
    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>>;

    /// Deletes a segment for good. One that is not there is no error.
    ///
    /// # Errors
    /// Whatever the disk said.
    fn delete(&self, name: &str) -> io::Result<()>;

    /// Puts a segment among the quarantined ones, where nothing deletes it; it stays a segment too
    /// until it is deleted. Says where it is.
    ///
    /// # Errors
    /// Whatever the disk said.
    fn quarantine(&self, name: &str) -> io::Result<String>;

    /// Keeps about `bytes` of space for [`LogDisk::release_reserve`], as far as there is room.
    fn keep_reserve(&self, bytes: u64);

    /// Gives the reserved space back, so that a segment can be opened on a full disk and the older
    /// ones, whose keys it carries, can go. False if nothing was reserved.
    fn release_reserve(&self) -> bool;
}

/// A segment being written.
pub trait LogFile: Send + Debug {
    /// Writes all of `bytes` at the end.
    ///
    /// # Errors
    /// Whatever the disk said; some of the bytes may be there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes everything written durable.
    ///
    /// # Errors
    /// Whatever the disk said; nobody knows then what is durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// A segment being read.
pub trait SegmentBytes: Send + Debug {
    /// # Errors
    /// Whatever the disk said.
    fn length(&self) -> io::Result<u64>;

    /// Fills `into` from `offset`.
    ///
    /// # Errors
    /// Whatever the disk said, or that the file is too short.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()>;
}

impl SegmentBytes for &[u8] {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let found = self
            .get(start..)
            .and_then(|rest| rest.get(..into.len()))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(found);
        Ok(())
    }
}

impl SegmentBytes for Vec<u8> {
    fn length(&self) -> io::Result<u64> {
        self.as_slice().length()
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.as_slice().read_at(into, offset)
    }
}

impl SegmentBytes for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(into, offset)
    }
}

impl SegmentBytes for Box<dyn SegmentBytes> {
    fn length(&self) -> io::Result<u64> {
        (**self).length()
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_at(into, offset)
    }
}

/// A directory with its `quarantine/` inside.
#[derive(Debug)]
pub struct DirDisk {
    directory: PathBuf,
    quarantine: PathBuf,
}

/// A segment in a [`DirDisk`].
#[derive(Debug)]
pub struct DiskFile {
    file: File,
    length: u64,
}

impl DirDisk {
    /// Creates the directories that are missing.
    ///
    /// # Errors
    /// Whatever the disk said.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let disk = Self {
            directory: directory.to_owned(),
            quarantine: directory.join("quarantine"),
        };
        fs::create_dir_all(&disk.quarantine)?;
        sync_directory(&disk.directory)?;
        if let Some(parent) = directory.parent() {
            sync_directory(parent)?;
        }
        Ok(disk)
    }

    fn reserve_path(&self) -> PathBuf {
        self.directory.join("reserve")
    }
}

impl LogDisk for DirDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            if let Ok(name) = entry?.file_name().into_string()
                && name.ends_with(".log")
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn SegmentBytes>> {
        Ok(Box::new(File::open(self.directory.join(name))?))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        let path = self.directory.join(name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)?;
        let started = allocate(&file, FallocateFlags::KEEP_SIZE, HEADROOM_BYTES)
            .and_then(|()| sync_directory(&self.directory));
        if let Err(e) = started {
            // Empty as it is; where this fails too, the next start finds it and deletes it.
            let _ = fs::remove_file(&path);
            return Err(e);
        }
        Ok(Box::new(DiskFile { file, length: 0 }))
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.directory.join(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        sync_directory(&self.directory)
    }

    fn quarantine(&self, name: &str) -> io::Result<String> {
        let target = self.quarantine.join(name);
        match fs::hard_link(self.directory.join(name), &target) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            // A file system without links keeps a copy instead.
            Err(_) => {
                fs::copy(self.directory.join(name), &target)?;
                File::open(&target)?.sync_all()?;
            }
            Ok(()) => {}
        }
        sync_directory(&self.quarantine)?;
        Ok(target.display().to_string())
    }

    fn keep_reserve(&self, bytes: u64) {
        let reserve = || {
            let file = File::create(self.reserve_path())?;
            allocate(&file, FallocateFlags::empty(), HEADROOM_BYTES + bytes)
        };
        // Without room for it there is none; what was begun must not take the rest of the space.
        if reserve().is_err() {
            self.release_reserve();
        }
    }

    fn release_reserve(&self) -> bool {
        fs::remove_file(self.reserve_path()).is_ok()
    }
}

/// Takes space on the disk; a file system that cannot is no error.
fn allocate(file: &File, flags: FallocateFlags, bytes: u64) -> io::Result<()> {
    match fallocate(file, flags, 0, bytes) {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
        Err(e) => Err(e.into()),
        Ok(()) => Ok(()),
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    File::open(path)?.sync_all()
}

impl LogFile for DiskFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.length)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}
