//! A throwaway PostgreSQL in a directory and on a port of its own.

use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;

pub struct Server {
    dir: TempDir,
    pub port: u16,
    pub ca: String,
    pub other_ca: String,
    pub client_cert: String,
    pub client_key: String,
}

const HBA: &str = "\
local all all trust
hostssl all u_tls all trust
hostnossl all u_plain all trust
hostssl all u_cert all trust clientcert=verify-full
host all u_trust all trust
host all u_password all password
host all u_md5 all md5
host all u_scram all scram-sha-256
";

const ROLES: &str = "
CREATE ROLE u_tls LOGIN; CREATE ROLE u_plain LOGIN; CREATE ROLE u_cert LOGIN; CREATE ROLE u_trust LOGIN;
SET password_encryption = 'scram-sha-256';
CREATE ROLE u_password LOGIN PASSWORD 's3cret'; CREATE ROLE u_scram LOGIN PASSWORD 's3cret';
SET password_encryption = 'md5';
CREATE ROLE u_md5 LOGIN PASSWORD 's3cret';
";

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn authority(common_name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = named(common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// The newest PostgreSQL that is installed.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|entry| entry.path().join("bin").join(name)).filter(|path| path.exists());
    found.max().unwrap_or_else(|| PathBuf::from(name))
}

impl Server {
    pub fn start() -> Self {
        let dir = TempDir::with_prefix("trailgate-pg-").unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();

        let ca = authority("Orders CA");
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name = named("localhost");
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &ca).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = named("u_cert");
        let client_key = KeyPair::generate().unwrap();
        let client = params.signed_by(&client_key, &ca).unwrap();

        let server = Self {
            port,
            ca: ca.pem(),
            other_ca: authority("Another CA").pem(),
            client_cert: client.pem(),
            client_key: client_key.serialize_pem(),
            dir,
        };
        let data = server.data();
        server.run(
            "initdb",
            &["-D", &data, "-U", "postgres", "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8"],
        );
        server.put("pg_hba.conf", HBA);
        server.put("root.crt", &server.ca);
        server.put("server.crt", &certificate.pem());
        server.put("server.key", &key.serialize_pem());
        let mut settings = std::fs::read_to_string(server.path("postgresql.conf")).unwrap();
        write!(
            settings,
            "\nport={port}\nlisten_addresses='127.0.0.1'\nunix_socket_directories='{}'\nssl=on\nssl_ca_file='root.crt'\nfsync=off\n",
            server.socket_dir()
        )
        .unwrap();
        server.put("postgresql.conf", &settings);
        let log = server.dir.path().join("log");
        server.run("pg_ctl", &["-D", &data, "-w", "-t", "60", "-l", &log.to_string_lossy(), "start"]);
        server.sql(ROLES);
        server
    }

    fn data(&self) -> String {
        self.dir.path().join("data").to_string_lossy().into_owned()
    }

    pub fn socket_dir(&self) -> String {
        self.dir.path().to_string_lossy().into_owned()
    }

    fn path(&self, file: &str) -> PathBuf {
        Path::new(&self.data()).join(file)
    }

    /// Writes a file as the server's user, readable by it alone.
    fn put(&self, file: &str, content: &str) {
        let path = self.path(file);
        if !path.exists() {
            // The directory is the server's own; a file that it makes itself belongs to it.
            let made = self.command("touch", &[&path.to_string_lossy()]).output().unwrap();
            assert!(made.status.success(), "{made:?}");
        }
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    }

    /// The server refuses to run as root, so it runs as the user that Debian's packages make.
    fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let is_root =
            std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
        let mut command = if is_root {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program(name));
            command
        } else {
            Command::new(program(name))
        };
        command.args(arguments).current_dir(self.dir.path());
        command
    }

    fn run(&self, name: &str, arguments: &[&str]) -> Output {
        // To a file: the server inherits the output and would keep a pipe open.
        let log = std::fs::File::create(self.dir.path().join("output")).unwrap();
        let mut command = self.command(name, arguments);
        let status = command.stdout(log.try_clone().unwrap()).stderr(log).status().unwrap();
        let output = std::fs::read(self.dir.path().join("output")).unwrap();
        assert!(status.success(), "{name}: {}", String::from_utf8_lossy(&output));
        Output { status, stdout: output, stderr: Vec::new() }
    }

    fn sql(&self, text: &str) {
        let port = self.port.to_string();
        let socket = self.socket_dir();
        self.run(
            "psql",
            &["-X", "-v", "ON_ERROR_STOP=1", "-h", &socket, "-p", &port, "-U", "postgres", "-c", text],
        );
    }

    fn reload(&self) {
        self.run("pg_ctl", &["-D", &self.data(), "reload"]);
        // The signal is on its way; the server has read its files a moment later.
        std::thread::sleep(std::time::Duration::from_millis(700));
    }

    /// Swaps the certificate for a self-signed one without any subjectAltName. Returns it.
    pub fn use_self_signed(&self, common_name: &str) -> String {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = named(common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        self.put("server.crt", &certificate);
        self.put("server.key", &key.serialize_pem());
        self.reload();
        certificate
    }

    pub fn turn_tls_off(&self) {
        self.sql("ALTER SYSTEM SET ssl = off");
        self.reload();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let data = self.data();
        let _ = self.command("pg_ctl", &["-D", &data, "-m", "immediate", "-w", "stop"]).output();
    }
}
