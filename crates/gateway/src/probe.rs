//! Tests targets for the API, which must not know the protocols.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::control::{Prober, SshAuthority};
use api::types::TargetTest;
use identity::SshPublicKey;
use postgres::upstream::{Problem, UpstreamError};
use session::Target;
use vocabulary::{CredentialId, Name, TargetKind};

/// Logs in to targets with the sessions' own code.
pub struct Probers;

impl Prober for Probers {
    fn test(&self, target: Arc<Target>) -> Pin<Box<dyn Future<Output = TargetTest> + Send + '_>> {
        Box::pin(async move {
            match target.kind {
                TargetKind::Postgres => test_postgres(&target).await,
                TargetKind::Ssh => test_ssh(&target).await,
            }
        })
    }
}

/// Certifies keys with the gateway's own authority for SSH.
pub struct Authority(pub Arc<ssh::GatewayKeys>);

impl SshAuthority for Authority {
    fn certify(
        &self,
        principal: &Name,
        credential: CredentialId,
        key: &SshPublicKey,
        lifetime: Duration,
    ) -> Result<String, String> {
        self.0.certify(principal, credential, key, lifetime).map_err(|error| error.to_string())
    }
}

fn nothing(target: &Target, began: Instant) -> TargetTest {
    TargetTest {
        target: target.name.clone(),
        ok: false,
        server: None,
        role: None,
        database: None,
        tls: None,
        duration_us: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
        fault: None,
        problem: None,
        advice: None,
    }
}

async fn test_ssh(target: &Target) -> TargetTest {
    let began = Instant::now();
    let found = ssh::test_target(target).await;
    let nothing = nothing(target, began);
    match found {
        Ok(server) => {
            TargetTest { ok: true, server: Some(server.version), role: Some(server.login), ..nothing }
        }
        Err(error) => TargetTest {
            fault: Some(error.fault().to_owned()),
            problem: Some(error.to_string()),
            advice: Some(error.advice().to_owned()),
            ..nothing
        },
    }
}

async fn test_postgres(target: &Target) -> TargetTest {
    let began = Instant::now();
    let found = postgres::test_target(target).await;
    let nothing = nothing(target, began);
    match found {
        Ok(server) => TargetTest {
            ok: true,
            server: Some(format!("PostgreSQL {}", server.version)),
            role: Some(server.role),
            database: Some(server.database),
            tls: server.tls,
            ..nothing
        },
        Err(error) => {
            let (fault, advice) = whose_fault(&error);
            TargetTest {
                fault: Some(fault.to_owned()),
                problem: Some(error.to_string()),
                advice: Some(advice.to_owned()),
                ..nothing
            }
        }
    }
}

/// Which side has to act, and how.
fn whose_fault(error: &UpstreamError) -> (&'static str, &'static str) {
    let Some(problem) = error.problem() else {
        return ("gateway", "add the target again");
    };
    match problem {
        Problem::Url(_) | Problem::Material { .. } => {
            ("gateway", "remove the target and add it again with the right URL and files")
        }
        Problem::Credential { .. } | Problem::NoPassword => (
            "gateway",
            "the stored role or password is wrong, or pg_hba.conf does not let it in from here; remove the target and add it again with the right one",
        ),
        Problem::Cleartext | Problem::Method(_) | Problem::NoChannelBinding | Problem::Scram(_) => {
            ("target", "see which authentication its pg_hba.conf asks for; scram-sha-256 works")
        }
        Problem::NoTls | Problem::Tls(_) | Problem::Certificate(_) => {
            ("target", "compare its TLS set-up with sslmode and sslrootcert in the target's URL")
        }
        Problem::Resolve(_) | Problem::Connect(_) | Problem::TimedOut(_) => (
            "network",
            "check host and port in the URL, that the server is up and listens there (listen_addresses), and the firewall",
        ),
        Problem::Closed | Problem::Broken(_) | Problem::Protocol(_) => {
            ("target", "check that a PostgreSQL server listens there, and see its log")
        }
        Problem::Attributes => {
            ("target", "no server of the list is what target_session_attrs in the URL asks for")
        }
        Problem::Server { .. } => ("target", "see the server's own log"),
        Problem::NoRandomness => ("gateway", "the gateway's system has no random numbers to give"),
    }
}
