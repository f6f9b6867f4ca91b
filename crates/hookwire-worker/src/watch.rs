//! Sees that files changed, by watching the folders that hold them.
//!
//! Invariants:
//! - Folders are watched, not files: an editor renames a new file over the old one, and Kubernetes swaps the symbolic
//!   link that leads to a whole folder.
//! - Every symbolic link on the way to a file is watched in the folder it lies in.
//! - The system only says that something may have happened; whether a file changed is decided by comparing stamps, so
//!   that a log that is written beside the configuration reloads nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, SystemTime};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

/// How often files are looked at where the system cannot watch them: a change takes effect soon, and looking at some
/// files costs next to nothing.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How many symbolic links are followed for one file: what Linux allows.
const LINKS_MAX: usize = 40;

/// What tells one state of a file from another without reading it; `None` where there is no file.
pub(crate) type Stamps = BTreeMap<PathBuf, Option<Stamp>>;

/// One state of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Device, inode and time of the last change of state, which no program can set back; zero where the system has no
    /// such things.
    identity: (u64, u64, i64, i64),
    bytes: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Stamp { identity: identity(metadata), bytes: metadata.len(), modified: metadata.modified().ok() }
    }
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> (u64, u64, i64, i64) {
    use std::os::unix::fs::MetadataExt as _;
    (metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
}

#[cfg(not(unix))]
fn identity(_metadata: &Metadata) -> (u64, u64, i64, i64) {
    (0, 0, 0, 0)
}

/// The present state of files; symbolic links are followed.
pub(crate) fn stamps<'p>(files: impl IntoIterator<Item = &'p Path>) -> Stamps {
    let stamp = |file: &Path| std::fs::metadata(file).ok().map(|metadata| Stamp::of(&metadata));
    files.into_iter().map(|file| (file.to_owned(), stamp(file))).collect()
}

/// Wakes somebody when something happens in the folders that hold some files.
pub(crate) struct Watch {
    wake: SyncSender<()>,
    watcher: Option<RecommendedWatcher>,
    /// What is watched: each folder with its device and inode, since another folder may take its name.
    folders: BTreeMap<PathBuf, (u64, u64)>,
    /// Whether the system cannot watch, and files must be looked at from time to time.
    must_look: bool,
}

impl Watch {
    /// Watches nothing yet. `wake` has room for one message, which is all it takes to wake somebody.
    pub(crate) fn new(wake: SyncSender<()>) -> Self {
        Watch { wake, watcher: None, folders: BTreeMap::new(), must_look: false }
    }

    /// Whether files must be looked at every [`LOOK_AGAIN`], since the system cannot watch them.
    pub(crate) fn must_look(&self) -> bool {
        self.must_look
    }

    /// Watches the folders of these files from now on.
    pub(crate) fn follow<'p>(&mut self, files: impl IntoIterator<Item = &'p Path>) {
        let mut wanted = BTreeSet::new();
        files.into_iter().for_each(|file| folders_on_the_way(file, &mut wanted));
        let wanted: BTreeMap<PathBuf, (u64, u64)> = wanted
            .into_iter()
            .filter_map(|folder| {
                let (device, inode, ..) = identity(&std::fs::metadata(&folder).ok()?);
                Some((folder, (device, inode)))
            })
            .collect();
        if self.folders == wanted {
            return;
        }
        match self.watcher(&wanted) {
            Ok(watcher) => {
                self.watcher = Some(watcher);
                self.must_look = false;
            }
            Err(error) => {
                if !self.must_look {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the configuration's folders cannot be watched; its files are looked at every {} s instead",
                        LOOK_AGAIN.as_secs(),
                    );
                }
                self.watcher = None;
                self.must_look = true;
            }
        }
        self.folders = wanted;
    }

    fn watcher(&self, folders: &BTreeMap<PathBuf, (u64, u64)>) -> notify::Result<RecommendedWatcher> {
        let wake = self.wake.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // What the system could not say in full may be anything.
            if event.is_ok_and(|event| only_read(&event)) {
                return;
            }
            // Full means that a message is already waiting.
            let _ = wake.try_send(());
        })?;
        for folder in folders.keys() {
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
        }
        Ok(watcher)
    }
}

/// Whether somebody has only read, as we do ourselves.
fn only_read(event: &Event) -> bool {
    matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write))
}

/// The folders in which something happens when another file takes this one's place.
fn folders_on_the_way(file: &Path, folders: &mut BTreeSet<PathBuf>) {
    let Ok(mut path) = std::path::absolute(file) else { return };
    for _ in 0..LINKS_MAX {
        let Some((folder, beyond)) = first_link(&path) else { break };
        folders.insert(folder);
        path = beyond;
    }
    // A folder that is not there yet shows itself in the one above it.
    folders.extend(path.ancestors().skip(1).find(|folder| folder.is_dir()).map(Path::to_owned));
}

/// The first symbolic link on a path: the folder it lies in, and the path from where it leads to.
fn first_link(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let mut at = PathBuf::new();
    let mut components = path.components();
    while let Some(component) = components.next() {
        // Nothing before this is a link, so the folder above is the one before it in the path.
        if component == std::path::Component::ParentDir {
            at.pop();
            continue;
        }
        let folder = at.clone();
        at.push(component);
        if let Ok(target) = std::fs::read_link(&at) {
            let beyond = folder.join(target).join(components.as_path());
            return Some((folder, beyond));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn every_link_on_the_way_is_watched() {
        use std::os::unix::fs::symlink;
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        for folder in ["etc", "data", "releases/1"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        std::fs::write(root.join("releases/1/hookwire.toml"), "").unwrap();
        symlink(root.join("releases/1"), root.join("data/current")).unwrap();
        symlink("../data/current/hookwire.toml", root.join("etc/hookwire.toml")).unwrap();
        let mut folders = BTreeSet::new();
        folders_on_the_way(&root.join("etc/hookwire.toml"), &mut folders);
        let expected = ["data", "etc", "releases/1"].map(|folder| root.join(folder));
        let resolved: Vec<PathBuf> = folders.iter().map(|folder| folder.canonicalize().unwrap()).collect();
        assert_eq!(resolved, expected);
        // One that is not there is expected in the nearest folder that is.
        let mut folders = BTreeSet::new();
        folders_on_the_way(&root.join("etc/sub/folder/file.toml"), &mut folders);
        assert_eq!(Vec::from_iter(folders), [root.join("etc")]);
        // A link that leads to itself leads nowhere.
        symlink("loop", root.join("loop")).unwrap();
        let mut folders = BTreeSet::new();
        folders_on_the_way(&root.join("loop/file.toml"), &mut folders);
        assert_eq!(Vec::from_iter(folders), [root]);
    }
}
