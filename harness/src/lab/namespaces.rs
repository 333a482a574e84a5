//! Network and mount namespaces of Linux, held open by this process: they are gone when it ends,
//! whatever ends it, and have no name that could be left behind.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::Context;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

/// A network of its own: interfaces, addresses, routes, ports and packet filters.
#[derive(Debug, Clone)]
pub struct Network(Arc<OwnedFd>);

/// A view of the file system that differs from this process's in what is mounted.
#[derive(Debug, Clone)]
pub struct Mounts(Arc<OwnedFd>);

/// What is mounted in [`Mounts`].
#[derive(Debug, Clone)]
pub enum Mount {
    /// A file or folder, seen at another path, which is made if it is not there.
    Bind {
        /// What is seen.
        source: PathBuf,
        /// Where.
        target: PathBuf,
    },
    /// An empty folder in memory that everybody may write to, over one that exists.
    Empty(PathBuf),
    /// A new folder that everybody may write to, below an empty one.
    Folder(PathBuf),
}

impl Network {
    /// A network without any way out, not even loopback, until interfaces are put into it.
    ///
    /// # Errors
    /// If this process may not, for want of CAP_SYS_ADMIN.
    pub fn create() -> anyhow::Result<Self> {
        let opened = on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            open("net")
        });
        Ok(Self(Arc::new(opened.context(
            "cannot make a network namespace, which takes root (CAP_SYS_ADMIN)",
        )?)))
    }

    /// Runs `inside` on a thread of this network. Sockets that it makes stay there for good, so a
    /// socket may be made here and used anywhere.
    ///
    /// # Errors
    /// If the kernel refuses, or `inside` does.
    pub fn enter<T: Send>(
        &self,
        inside: impl FnOnce() -> io::Result<T> + Send,
    ) -> anyhow::Result<T> {
        let entered = on_a_thread(|| {
            setns(&*self.0, CloneFlags::CLONE_NEWNET)?;
            inside()
        });
        Ok(entered?)
    }

    /// The namespace's file, for programs of this machine: `nsenter --net=FILE`.
    pub fn file(&self) -> PathBuf {
        file(&self.0)
    }
}

impl Mounts {
    /// The file system as it is, with these mounts, which nobody else sees.
    ///
    /// # Errors
    /// If a mount fails; names it.
    pub fn create(mounts: &[Mount]) -> anyhow::Result<Self> {
        let opened = on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNS)?;
            let nothing = None::<&str>;
            let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
            mount(nothing, "/", nothing, private, nothing)?;
            for wanted in mounts {
                wanted.mount().map_err(|error| {
                    io::Error::other(format!(
                        "cannot mount {}: {error}",
                        wanted.target().display()
                    ))
                })?;
            }
            open("mnt")
        });
        Ok(Self(Arc::new(opened.context(
            "cannot make a mount namespace, which takes root (CAP_SYS_ADMIN)",
        )?)))
    }

    /// The namespace's file, for programs of this machine: `nsenter --mount=FILE`.
    pub fn file(&self) -> PathBuf {
        file(&self.0)
    }
}

impl Mount {
    fn target(&self) -> &Path {
        match self {
            Self::Bind { target, .. } | Self::Empty(target) | Self::Folder(target) => target,
        }
    }

    fn mount(&self) -> io::Result<()> {
        let nothing = None::<&str>;
        match self {
            Self::Bind { source, target } => {
                if source.is_dir() {
                    std::fs::create_dir_all(target)?;
                } else if !target.exists() {
                    File::create(target)?;
                }
                let bind = MsFlags::MS_BIND;
                Ok(mount(Some(source), target, nothing, bind, nothing)?)
            }
            Self::Empty(target) => {
                let flags = MsFlags::empty();
                let options = Some("mode=0777");
                Ok(mount(Some("none"), target, Some("tmpfs"), flags, options)?)
            }
            Self::Folder(target) => {
                std::fs::create_dir_all(target)?;
                crate::lab::paths::set_mode(target, 0o777)
            }
        }
    }
}

/// Where a program runs: in a network and a view of the file system, and as whom.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its network.
    pub network: Network,
    /// Its view of the file system.
    pub mounts: Mounts,
    /// Its working folder.
    pub folder: PathBuf,
}

impl Place {
    /// A command that runs `program` there.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.enter();
        command.arg(program);
        command
    }

    /// A command that runs `program` there as the first process of a tree that ends with it, as a
    /// container's does, and as the user and group `user`.
    pub fn tree(&self, program: impl AsRef<OsStr>, user: u32) -> Command {
        let mut command = self.enter();
        command
            .args(["unshare", "--pid", "--fork", "--kill-child", "--"])
            .arg("setpriv")
            .arg(format!("--reuid={user}"))
            .arg(format!("--regid={user}"))
            // The change of user clears the signal that `unshare` has asked for.
            .args(["--clear-groups", "--pdeathsig=KILL", "--"])
            .arg(program);
        command
    }

    fn enter(&self) -> Command {
        let option = |name: &str, path: &Path| {
            let mut option = OsString::from(name);
            option.push(path);
            option
        };
        let mut command = Command::new("nsenter");
        command
            .arg(option("--net=", &self.network.file()))
            .arg(option("--mount=", &self.mounts.file()))
            .arg(option("--wdns=", &self.folder))
            .arg("--");
        command
    }
}

/// Runs `inside` on a thread of its own: a thread that has entered a namespace is of no use after.
fn on_a_thread<T: Send>(inside: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, inside)?;
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Opens a namespace of the calling thread.
fn open(kind: &str) -> io::Result<OwnedFd> {
    Ok(File::open(format!("/proc/thread-self/ns/{kind}"))?.into())
}

fn file(namespace: &OwnedFd) -> PathBuf {
    PathBuf::from(format!(
        "/proc/{}/fd/{}",
        std::process::id(),
        namespace.as_raw_fd()
    ))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Nothing can be seen of namespaces by a user who may not make any.
    fn may_make_namespaces() -> bool {
        let is_root = nix::unistd::geteuid().is_root();
        if !is_root {
            eprintln!("skipped: network namespaces take root");
            assert!(std::env::var_os("CI").is_none(), "CI runs as root");
        }
        is_root
    }

    #[test]
    fn a_network_is_empty_and_its_sockets_stay_in_it() {
        if !may_make_namespaces() {
            return;
        }
        let network = Network::create().unwrap();
        let bind = || TcpListener::bind("127.0.0.1:0");
        let listener = network.enter(bind).unwrap();
        let address = listener.local_addr().unwrap();
        let connect = || std::net::TcpStream::connect(address);
        let unreachable = network.enter(connect).unwrap_err();
        assert!(
            unreachable.to_string().contains("unreachable"),
            "{unreachable}"
        );
        let mounts = Mounts::create(&[]).unwrap();
        let place = Place {
            network: network.clone(),
            mounts,
            folder: "/".into(),
        };
        let status = place
            .command("ip")
            .args(["link", "set", "lo", "up"])
            .status();
        assert!(status.unwrap().success());
        network.enter(connect).unwrap();
        let outside = connect().unwrap_err();
        assert_eq!(outside.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn mounts_are_seen_in_their_place_alone() {
        if !may_make_namespaces() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (source, target) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&source, "source").unwrap();
        std::fs::write(&target, "target").unwrap();
        let mount = Mount::Bind {
            source,
            target: target.clone(),
        };
        let place = Place {
            network: Network::create().unwrap(),
            mounts: Mounts::create(&[mount]).unwrap(),
            folder: folder.path().to_path_buf(),
        };
        let seen = place.command("cat").arg("b").output().unwrap();
        assert_eq!(String::from_utf8(seen.stdout).unwrap(), "source");
        assert_eq!(std::fs::read_to_string(target).unwrap(), "target");
        let user = place
            .tree("sh", 1337)
            .args(["-c", "echo $$ $(id -u)"])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(user.stdout).unwrap(), "1 1337\n");
    }

    #[test]
    fn a_mount_that_fails_is_named() {
        if !may_make_namespaces() {
            return;
        }
        let error = Mounts::create(&[Mount::Empty("/nonexistent".into())]).unwrap_err();
        assert!(
            format!("{error:#}").contains("cannot mount /nonexistent"),
            "{error:#}"
        );
    }
}
