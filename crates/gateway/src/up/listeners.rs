//! The sockets: opened before anything is promised, with the addresses that they really got.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::serve::{Listener, serve as serve_api};
use api::types::{Addresses, SshHostKeys};
use axum::Router;
use identity::scram::Decoy;
use rustls::ServerConfig;
use session::{ListenerSettings, PasswordExchange};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::cli::Failure;
use crate::data::{self, DataDir};
use crate::settings::{Listener as ListenerPlan, PostgresAuth, Protection, Settings, SettingsError};
use crate::tls::{Identity, OwnAuthority};

/// Connections that may wait in the kernel's queue of a listener.
const BACKLOG: i32 = 4096;

/// Every socket of a gateway, open.
pub struct Sockets {
    pub postgres: TcpListener,
    pub ssh: TcpListener,
    pub web: TcpListener,
    pub control: UnixListener,
    pub addresses: Addresses,
    pub postgres_listener: Arc<ListenerSettings>,
    pub ssh_listener: Arc<ListenerSettings>,
    pub ssh_keys: Arc<ssh::GatewayKeys>,
    pub web_tls: Option<Arc<ServerConfig>>,
}

impl Sockets {
    /// Opens all sockets, and the certificates that they need.
    pub fn open(data: &DataDir, settings: &Settings, decoy: Decoy) -> Result<Self, Failure> {
        let unusable = |error: SettingsError| Failure::new(error.to_string(), error.advice());
        let postgres_plan = settings.postgres_listener().map_err(unusable)?;
        let ssh_plan = settings.ssh_listener().map_err(unusable)?;
        let web_plan = settings.web_listener().map_err(unusable)?;
        let (postgres, postgres_at) = bind("postgres", &postgres_plan)?;
        let (ssh, ssh_at) = bind("ssh", &ssh_plan)?;
        let (web, web_at) = bind("web", &web_plan)?;
        let mut certificates =
            Certificates::new(data.path(), settings, &[postgres_at.ip(), ssh_at.ip(), web_at.ip()]);
        let ssh_keys = ssh::GatewayKeys::open(&data.path().join("ssh"), &certificates.hosts)
            .map_err(|error| Failure::from_error(&error))?;
        let postgres_files = settings.postgres.cert.as_deref().zip(settings.postgres.key.as_deref());
        let web_files = settings.web.cert.as_deref().zip(settings.web.key.as_deref());
        let tls = match postgres_plan.protection {
            Protection::Plain => None,
            Protection::Offered | Protection::Required => {
                Some(certificates.identity(postgres_files)?.postgres()?)
            }
        };
        let web_tls = match web_plan.protection {
            Protection::Plain => None,
            Protection::Offered | Protection::Required => Some(certificates.identity(web_files)?.web()?),
        };
        // The card is for PostgreSQL clients: they need the node's authority only if their listener's certificate is from it.
        let ca_file = if postgres_files.is_none() { certificates.ca_file() } else { None };
        let control = control_socket(&data::control_socket(data.path()))?;
        let addresses = Addresses {
            host: settings.node.hosts.first().cloned(),
            postgres: Some(postgres_at.to_string()),
            ssh: Some(ssh_at.to_string()),
            ssh_keys: Some(SshHostKeys { authority: ssh_keys.authority_line(), host: ssh_keys.host_line() }),
            web: Some(web_at.to_string()),
            control: Some(data::control_socket(data.path()).display().to_string()),
            ca_file,
            postgres_tls: tls.is_some(),
            web_tls: web_tls.is_some(),
        };
        let postgres_listener = Arc::new(ListenerSettings {
            tls,
            require_tls: postgres_plan.protection == Protection::Required,
            password: match settings.postgres.auth {
                PostgresAuth::ScramSha256 => PasswordExchange::ScramSha256,
                PostgresAuth::Cleartext => PasswordExchange::Cleartext,
            },
            pre_auth_deadline: Duration::from_secs(settings.postgres.pre_auth_deadline_s),
            decoy: decoy.clone(),
        });
        let ssh_listener = Arc::new(ListenerSettings {
            tls: None,
            require_tls: false,
            password: PasswordExchange::Cleartext,
            pre_auth_deadline: Duration::from_secs(settings.ssh.pre_auth_deadline_s),
            decoy,
        });
        Ok(Self {
            postgres,
            ssh,
            web,
            control,
            addresses,
            postgres_listener,
            ssh_listener,
            ssh_keys: Arc::new(ssh_keys),
            web_tls,
        })
    }
}

/// Serves the API on both of its listeners until `stop`.
pub async fn serve(
    control: UnixListener,
    web: TcpListener,
    web_tls: Option<Arc<ServerConfig>>,
    router: Router,
    connections: usize,
    stop: watch::Receiver<bool>,
) {
    let sockets = tokio::net::UnixListener::from_std(control)
        .and_then(|control| Ok((control, tokio::net::TcpListener::from_std(web)?)));
    let (control, web) = match sockets {
        Ok(sockets) => sockets,
        Err(error) => return tracing::error!(%error, "the API's sockets can't be used"),
    };
    let web = Listener::Web(web, web_tls.map(TlsAcceptor::from));
    tokio::join!(
        serve_api(Listener::Control(control), router.clone(), connections, stop.clone()),
        serve_api(web, router, connections, stop),
    );
}

/// Removes what tells others that a gateway is here.
pub fn remove_traces(data: &DataDir) {
    for path in [data::control_socket(data.path()), data::addresses_file(data.path())] {
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "{} stays behind", path.display());
        }
    }
}

fn bind(section: &str, plan: &ListenerPlan) -> Result<(TcpListener, SocketAddr), Failure> {
    open_tcp(plan.address).and_then(|socket| socket.local_addr().map(|address| (socket, address))).map_err(
        |error| {
            let advice = match error.kind() {
                io::ErrorKind::AddrInUse => format!(
                    "another program listens there; choose another {section}.listen (or --{section}-listen)"
                ),
                io::ErrorKind::PermissionDenied => {
                    "ports below 1024 need the capability CAP_NET_BIND_SERVICE".to_owned()
                }
                _ => format!("check {section}.listen: it has to be an address of this machine"),
            };
            Failure::new(format!("can't listen on {}: {error}", plan.address), advice)
        },
    )
}

/// As `TcpListener::bind`, with a longer queue and, on `[::]`, for IPv4 as well.
fn open_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// The control socket, for this user only. One that a crash left behind is replaced: the data directory is locked, so
/// nobody listens on it.
fn control_socket(path: &Path) -> Result<UnixListener, Failure> {
    let failed = |error: io::Error| Failure::file("listen on", path, &error);
    match path.symlink_metadata() {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path).map_err(failed)?,
        Ok(_) => {
            return Err(Failure::new(
                format!("{} is no socket", path.display()),
                "move it away: the gateway needs that name",
            ));
        }
        Err(_) => {}
    }
    // Made under another name and moved: whoever sees the socket under its own can connect to it, and nobody else.
    let unready = path.with_extension("sock.new");
    match std::fs::remove_file(&unready) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let socket = UnixListener::bind(&unready).map_err(failed)?;
    std::fs::set_permissions(&unready, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    std::fs::rename(&unready, path).map_err(failed)?;
    Ok(socket)
}

/// Certificates for the listeners: the operator's, or the node's own, made when first needed.
struct Certificates<'a> {
    data: &'a Path,
    node: String,
    hosts: Vec<String>,
    own: Option<OwnAuthority>,
}

impl<'a> Certificates<'a> {
    fn new(data: &'a Path, settings: &Settings, listening: &[IpAddr]) -> Self {
        let mut hosts = settings.node.hosts.clone();
        hosts.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
        hosts.extend(listening.iter().filter(|ip| !ip.is_unspecified()).map(ToString::to_string));
        if let Ok(name) = rustix::system::uname().nodename().to_str()
            && rustls_pki_types::DnsName::try_from(name).is_ok()
        {
            hosts.push(name.to_owned());
        }
        let mut seen = std::collections::HashSet::new();
        hosts.retain(|host| seen.insert(host.clone()));
        Self { data, node: settings.node_name().to_owned(), hosts, own: None }
    }

    fn identity(&mut self, files: Option<(&Path, &Path)>) -> Result<Identity, Failure> {
        if let Some((certificate, key)) = files {
            return Identity::from_files(certificate, key);
        }
        let own = match self.own.take() {
            Some(own) => own,
            None => OwnAuthority::open(self.data, &self.node)?,
        };
        self.own.insert(own).issue(&self.hosts)
    }

    fn ca_file(&self) -> Option<String> {
        self.own
            .as_ref()
            .map(|own: &OwnAuthority| -> &PathBuf { &own.ca_file })
            .map(|path| path.display().to_string())
    }
}
