//! Stand-ins for public images, of the same names, users, paths and entry points, from the programs of
//! this machine; and what else is packed into an image for a test.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use tar::{Builder, EntryType, Header};

use meridian::lab::compose::CERTIFICATE_FOLDERS;

use crate::engine::{Engine, succeed};

/// Envoy's, with the harness's Envoy and a shell.
pub const ENVOY: &str = "envoyproxy/envoy:v1.40.0";
/// NGINX's, with Debian's NGINX.
pub const NGINX: &str = "nginx:1.28";
/// Prometheus', with Debian's Prometheus and its `promtool`.
pub const PROMETHEUS: &str = "prom/prometheus:v3.5.0";
/// Grafana's, with NGINX, which answers as a healthy Grafana does and says what it is.
pub const GRAFANA: &str = "grafana/grafana:12.1.0";

/// What a shell script in an image may count on.
const SHELL: [&str; 8] = ["bash", "sh", "cat", "grep", "head", "id", "ls", "sleep"];

/// The file system of an image, as it is being imported.
pub struct Root {
    tar: Builder<ChildStdin>,
    import: Child,
    /// What is in it, with a leading slash.
    paths: BTreeSet<PathBuf>,
}

impl Root {
    /// Begins the image called `name`, with changes as of a Dockerfile's lines, the users of the official
    /// images and a folder for temporary files.
    pub fn of_image(engine: &Engine, name: &str, changes: &[&str]) -> Self {
        let mut command = engine.command("docker");
        command.arg("import");
        for change in changes {
            command.args(["--change", change]);
        }
        let mut import = command
            .args(["-", name])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut root = Self {
            tar: Builder::new(import.stdin.take().unwrap()),
            import,
            paths: BTreeSet::new(),
        };
        let users = [
            ("root", 0, 0),
            ("envoy", 101, 101),
            ("grafana", 472, 0),
            ("nobody", 65534, 65534),
        ];
        let line = |(name, user, group): (&str, u32, u32)| {
            format!("{name}:x:{user}:{group}:{name}:/tmp:/bin/sh\n")
        };
        root.file("/etc/passwd", &users.map(line).concat());
        let group = |(name, _, group): (&str, u32, u32)| format!("{name}:x:{group}:\n");
        root.file("/etc/group", &users.map(group).concat());
        root.folder("/tmp", 0o1777);
        root.folder("/run", 0o755);
        root
    }

    /// Ends the image.
    pub fn finish(mut self) {
        drop(self.tar.into_inner().unwrap());
        assert!(self.import.wait().unwrap().success(), "docker import");
    }

    /// Puts a text into a file that everybody may read.
    pub fn file(&mut self, path: &str, text: &str) {
        self.add(Path::new(path), EntryType::Regular, 0o644, text.as_bytes());
    }

    /// An empty folder.
    pub fn folder(&mut self, path: &str, mode: u32) {
        self.add(Path::new(path), EntryType::Directory, mode, &[]);
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        if !self.paths.insert(PathBuf::from(path)) {
            return;
        }
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        let path = path.trim_start_matches('/');
        self.tar.append_link(&mut header, path, target).unwrap();
    }

    /// Puts a program of this machine at `path`, and the libraries that it is linked with where it
    /// looks for them.
    pub fn program(&mut self, source: &Path, path: &str) {
        self.copy(source, Path::new(path));
        let listed = Command::new("ldd").arg(source).output().unwrap();
        // A static program has none, which `ldd` tells with its status.
        for word in String::from_utf8(listed.stdout).unwrap().split_whitespace() {
            if word.starts_with('/') && !word.ends_with(':') {
                self.copy(Path::new(word), Path::new(word));
            }
        }
    }

    /// A shell and a few programs for scripts.
    pub fn shell(&mut self) {
        for program in SHELL {
            self.program(&program_of(program), &format!("/bin/{program}"));
        }
        self.link("/usr/bin/bash", "/bin/bash");
    }

    /// A script of the shell that everybody may run.
    pub fn script(&mut self, path: &str, text: &str) {
        self.add(Path::new(path), EntryType::Regular, 0o755, text.as_bytes());
    }

    /// Copies a file of this machine, or what a link there leads to.
    pub fn copy(&mut self, source: &Path, path: &Path) {
        let contents = fs::read(source)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", source.display()));
        self.add(path, EntryType::Regular, 0o755, &contents);
    }

    /// Adds an entry, once.
    fn add(&mut self, path: &Path, kind: EntryType, mode: u32, contents: &[u8]) {
        if !self.paths.insert(path.to_path_buf()) {
            return;
        }
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(contents.len() as u64);
        let path = path.strip_prefix("/").unwrap();
        self.tar.append_data(&mut header, path, contents).unwrap();
    }
}

/// A program of this machine, as Debian installs it.
fn program_of(name: &str) -> PathBuf {
    meridian::lab::programs::find(name).unwrap_or_else(|| panic!("this machine has no `{name}`"))
}

/// The entry point of the official images: what begins with a dash is options of the program.
fn entry_point(program: &str) -> String {
    format!("#!/bin/sh\n[ \"${{1#-}}\" = \"$1\" ] || set -- {program} \"$@\"\nexec \"$@\"\n")
}

/// Makes [`ENVOY`] of the release that the harness downloads.
pub fn envoy(engine: &Engine) {
    let changes = [
        r#"ENTRYPOINT ["/docker-entrypoint.sh"]"#,
        r#"CMD ["envoy", "-c", "/etc/envoy/envoy.yaml"]"#,
        "EXPOSE 10000",
    ];
    let mut root = Root::of_image(engine, ENVOY, &changes);
    root.shell();
    let binary = meridian::lab::envoy::obtain_version("1.40.0").unwrap();
    root.program(&binary, "/usr/local/bin/envoy");
    root.script("/docker-entrypoint.sh", &entry_point("envoy"));
    root.finish();
}

/// An image with NGINX.
fn with_nginx(engine: &Engine, name: &str, changes: &[&str]) -> Root {
    let mut root = Root::of_image(engine, name, changes);
    root.shell();
    root.program(&program_of("nginx"), "/usr/sbin/nginx");
    root.copy(
        Path::new("/etc/nginx/mime.types"),
        Path::new("/etc/nginx/mime.types"),
    );
    root.folder("/etc/nginx/conf.d", 0o755);
    root.folder("/var/cache/nginx", 0o755);
    // Debian's NGINX makes its folders for bodies here, unless told otherwise.
    root.folder("/var/lib/nginx", 0o755);
    root.link("/var/log/nginx/access.log", "/dev/stdout");
    root.link("/var/log/nginx/error.log", "/dev/stderr");
    root.script("/docker-entrypoint.sh", &entry_point("nginx"));
    root
}

/// Makes [`NGINX`].
pub fn nginx(engine: &Engine) {
    let changes = [
        r#"ENTRYPOINT ["/docker-entrypoint.sh"]"#,
        r#"CMD ["nginx", "-g", "daemon off;"]"#,
        "EXPOSE 80",
    ];
    let mut root = with_nginx(engine, NGINX, &changes);
    root.file(
        "/etc/nginx/nginx.conf",
        "worker_processes auto;\npid /run/nginx.pid;\nevents {}\nhttp { include conf.d/*.conf; }\n",
    );
    root.finish();
}

/// Makes [`PROMETHEUS`].
pub fn prometheus(engine: &Engine) {
    let changes = [
        "USER nobody",
        "WORKDIR /prometheus",
        r#"ENTRYPOINT ["/bin/prometheus"]"#,
        r#"CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]"#,
        "EXPOSE 9090",
    ];
    let mut root = Root::of_image(engine, PROMETHEUS, &changes);
    root.shell();
    for program in ["prometheus", "promtool"] {
        root.program(&program_of(program), &format!("/bin/{program}"));
    }
    root.file("/etc/prometheus/prometheus.yml", "{}\n");
    root.folder("/prometheus", 0o777);
    root.finish();
}

/// Makes [`GRAFANA`].
pub fn grafana(engine: &Engine) {
    let changes = ["USER 472", r#"ENTRYPOINT ["/run.sh"]"#, "EXPOSE 3000"];
    let mut root = with_nginx(engine, GRAFANA, &changes);
    root.program(&program_of("curl"), "/usr/bin/curl");
    root.folder("/etc/grafana/provisioning", 0o755);
    root.folder("/var/lib/grafana", 0o777);
    root.file("/etc/nginx/nginx.conf", STAND_IN_FOR_GRAFANA);
    root.script(
        "/run.sh",
        "#!/bin/sh\nexec nginx -e /dev/stderr -c /etc/nginx/nginx.conf\n",
    );
    root.finish();
}

/// It writes nothing: the file system may be read-only.
const STAND_IN_FOR_GRAFANA: &str = r#"daemon off;
master_process off;
pid /dev/null;
error_log /dev/stderr;
events {}
http {
    access_log off;
    client_body_temp_path /tmp/body;
    proxy_temp_path /tmp/proxy;
    fastcgi_temp_path /tmp/fastcgi;
    uwsgi_temp_path /tmp/uwsgi;
    scgi_temp_path /tmp/scgi;
    default_type application/json;
    server {
        listen 3000;
        location = /api/health { return 200 '{"database":"ok","version":"stand-in"}\n'; }
        location / { return 200 '"a stand-in for Grafana, which has only /api/health"\n'; }
    }
}
"#;

/// The name of the command line's image.
pub fn meridian_name() -> String {
    format!("meridian:{}", env!("CARGO_PKG_VERSION"))
}

/// Makes the command line's image of the program that these tests are compiled with.
pub fn meridian(engine: &Engine) {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("meridian");
    let mut build = Command::new(env!("CARGO_BIN_EXE_meridian"));
    succeed(build.args(["build", "--standalone"]).arg(&program));
    let changes = [
        "USER 65532:65532",
        "ENV XDG_CACHE_HOME=/tmp",
        r#"ENTRYPOINT ["/meridian"]"#,
    ];
    let mut root = Root::of_image(engine, &meridian_name(), &changes);
    root.program(&program, "/meridian");
    // Named volumes take their modes from these.
    for folder in ["/modules", "/filters"] {
        root.folder(folder, 0o777);
    }
    for folder in CERTIFICATE_FOLDERS {
        root.folder(&format!("/certificates/{folder}"), 0o777);
    }
    root.finish();
}
