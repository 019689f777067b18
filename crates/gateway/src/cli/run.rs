//! From the command line to the command.

use std::path::{Path, PathBuf};

use vocabulary::PrincipalKind;

use super::args::{self, Cli, Command, Shared};
use super::{Failure, connect, policy, principal, review, ssh, target, trail};
use crate::client::Client;
use crate::{data, demo, doctor, logging, seal, up, witness};

/// Does what the command line says.
///
/// # Errors
/// [`Failure`]: one sentence, and what to do.
pub fn run(cli: Cli) -> Result<(), Failure> {
    let Cli { shared, command } = cli;
    let data = shared.data.clone().unwrap_or_else(|| PathBuf::from(data::DEFAULT));
    match command {
        Command::Up(options) => {
            logging::start("info");
            up::run(shared.data.as_deref(), &options)
        }
        Command::Seal(options) => {
            logging::start("info");
            seal::run(shared.data.as_deref(), &options)
        }
        Command::Witness(args::Witness::Up(options)) => {
            logging::start("info");
            witness::serve::run(shared.data.as_deref(), &options)
        }
        Command::Demo(options) => {
            logging::start("warn");
            demo::run(&options)
        }
        command => {
            logging::start("warn");
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
                    Failure::new(format!("the system gives no resources: {error}"), "try again")
                })?;
            runtime.block_on(client_command(&shared, &data, command))
        }
    }
}

async fn client_command(shared: &Shared, data: &Path, command: Command) -> Result<(), Failure> {
    if let Command::Policy(command) = command {
        return policy::run(shared, data, command).await;
    }
    let client = Client::from_environment(data)?;
    match command {
        Command::Target(command) => target::run(shared, &client, command).await,
        Command::Agent(command) => principal::run(shared, &client, PrincipalKind::Agent, command).await,
        Command::Person(command) => principal::run(shared, &client, PrincipalKind::Person, command).await,
        Command::Service(command) => principal::run(shared, &client, PrincipalKind::Service, command).await,
        Command::Ssh(command) => ssh::run(shared, &client, command).await,
        Command::Connect(command) => connect::run(shared, &client, command).await,
        Command::Trail(command) => trail::run(shared, &client, data, command).await,
        Command::Review(command) => review::run(shared, &client, command).await,
        Command::Doctor(command) => doctor::run(shared, &client, data, &command).await,
        Command::Up(_) | Command::Demo(_) | Command::Policy(_) | Command::Seal(_) | Command::Witness(_) => {
            Ok(())
        }
    }
}
