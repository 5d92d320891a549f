//! `scoria server`: from the command line to a running server and its end.

use std::os::unix::process::CommandExt;
use std::process::Command;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::settings::SettingsArgs;
use super::{EXIT_CODES, Exit, output};
use crate::config::{Config, ConfigError};
use crate::serve::{Server, StartError};
use crate::telemetry;

#[derive(Debug, Args)]
#[command(after_help = format!("Every setting has a key (docs/reference/config.md) and comes from, highest first:
  a flag below, --set section.key=value, the environment variable SCORIA_SECTION__KEY,
  the file of --config, its default.

Examples:
  scoria server                                       all roles, data in ./data
  scoria server --listen 0.0.0.0:4040 --data-dir /var/lib/scoria
  scoria server --set ingester.cut_age=5m --set self_profiling.enabled=true
  SCORIA_MEMORY__LIMIT=2GiB scoria server --config scoria.yaml
  scoria server --config scoria.yaml --dump-config    show what is in force, and end

SIGTERM or SIGINT stops taking requests, finishes those under way and flushes; a second one ends
at once.

{EXIT_CODES}"))]
pub(super) struct ServerArgs {
    /// Roles to run: all, or some of distributor, ingester, querier.
    #[arg(long)]
    target: Option<String>,
    /// Address to listen on.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    #[command(flatten)]
    settings: SettingsArgs,
    /// YAML file with limits by tenant; read again when it changes.
    #[arg(long, value_name = "FILE")]
    runtime_config: Option<String>,
    /// Print the settings in force, with secrets masked, and end.
    #[arg(long)]
    dump_config: bool,
}

impl ServerArgs {
    fn load(&self) -> Result<Config, ConfigError> {
        self.settings.load(&[
            ("--target", "server.target", &self.target),
            ("--listen", "server.listen", &self.listen),
            (
                "--runtime-config",
                "runtime_config.file",
                &self.runtime_config,
            ),
        ])
    }
}

pub(super) async fn run(args: ServerArgs) -> Exit {
    let config = match args.load() {
        Ok(config) => config,
        Err(error) => {
            output::complain(&error.to_string());
            return Exit::Usage;
        }
    };
    if args.dump_config {
        return match output::print(config.dump().lines().map(str::to_owned)) {
            Ok(()) => Exit::Done,
            Err(_) => Exit::Failed,
        };
    }
    if let Err(error) = telemetry::start_logs(&config.log) {
        output::complain(&format!("{error:#}"));
        return Exit::Usage;
    }
    if config.memory.limit.bytes() < SMALL_LIMIT {
        give_memory_back_at_once();
    }
    serve(config).await
}

/// Below this the allocator returns what is freed at once rather than in a second, which makes
/// pushes of many profiles a third slower: what a few requests leave would be most of the memory.
const SMALL_LIMIT: u64 = 1 << 30;
/// Read by the allocator when the process starts, and never again (ADR 0048).
const PURGE_DELAY: &str = "MIMALLOC_PURGE_DELAY";

/// Starts the program anew, in the same process, with the setting; one that is set already stays.
fn give_memory_back_at_once() {
    if std::env::var_os(PURGE_DELAY).is_some() {
        return;
    }
    let mut arguments = std::env::args_os();
    let program = arguments.next().unwrap_or_default();
    let error = match std::env::current_exe() {
        Ok(path) => Command::new(path)
            .arg0(program)
            .args(arguments)
            .env(PURGE_DELAY, "0")
            .exec(),
        Err(error) => error,
    };
    tracing::warn!(%error, "cannot start with {PURGE_DELAY}=0; freed memory is given back late");
}

async fn serve(config: Config) -> Exit {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(%error, "signals cannot be received");
            return Exit::Failed;
        }
    };
    let server = tokio::select! {
        started = Server::start(config) => started,
        () = signals.next() => {
            tracing::info!("told to stop before it was ready");
            return Exit::Unready;
        }
    };
    let server = match server {
        Ok(server) => server,
        Err(error) => {
            tracing::error!("{error}");
            return match error {
                StartError::Bind { .. } => Exit::Address,
                StartError::Memory(_) | StartError::Limits(_) | StartError::RuntimeConfig(_) => {
                    Exit::Usage
                }
                StartError::QueryThreads(_) | StartError::Role(_) => Exit::Failed,
            };
        }
    };
    signals.next().await;
    tracing::info!("stopping; a second signal ends at once");
    tokio::select! {
        () = server.stop() => Exit::Done,
        () = signals.next() => {
            tracing::warn!("ended by a second signal");
            // Threads that are still at work would be waited for otherwise.
            std::process::exit(Exit::Interrupted as i32)
        }
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
