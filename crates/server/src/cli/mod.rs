//! The command line: what the verbs are, what their flags mean, and how the process ends.

mod block;
mod catalogue;
mod copy;
mod delete;
mod flame;
mod fsck;
mod output;
mod push;
mod query;
mod server;
mod settings;
mod time;
mod usage;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::bench;
use crate::config::ConfigError;

/// How a process ends; other programs may rely on these numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    /// Wrong arguments or configuration. The parser of the command line ends with it, too.
    Usage = 2,
    /// The address could not be bound.
    Address = 3,
    /// Some of the files were refused.
    Partly = 4,
    /// What was checked is damaged.
    Damaged = 5,
    /// Told to stop before it was ready: nothing had been taken in.
    Unready = 6,
    /// Ended by a second signal, without finishing what was under way.
    Interrupted = 130,
}

const EXIT_CODES: &str = "Exit codes:
  0    done
  1    failed while working; the message says at what
  2    wrong arguments or configuration
  3    the address to listen on could not be bound
  4    some of the pushed files were refused
  5    fsck found something damaged
  6    the server was told to stop before it was ready
  130  ended by a second signal, without draining";

#[derive(Debug, Parser)]
#[command(
    name = "scoria",
    version,
    about = "Stores continuous profiles and answers with flame graphs",
    after_help = "Start here:
  scoria server                                    run everything on http://127.0.0.1:4040
  scoria push cpu.pb.gz --label service_name=app   send it a profile
  scoria query top --selector '{service_name=\"app\"}'

Exit codes: 0 done, 1 failed, 2 wrong arguments or configuration, 3 address taken,
4 some files refused, 5 damage found, 6 stopped before it was ready,
130 ended by a second signal. Settings: docs/reference/config.md"
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a server: take profiles in, keep them, answer queries.
    Server(server::ServerArgs),
    /// Push pprof files to a server.
    Push(push::PushArgs),
    /// Ask a server, and show the answer in the terminal or write it to a file.
    Query(query::QueryArgs),
    /// Check everything in an object store.
    Fsck(fsck::FsckArgs),
    /// Show or mend the catalogue of an object store.
    Catalog(catalogue::CatalogueArgs),
    /// Show or export a block of an object store.
    Block(block::BlockArgs),
    /// Copy some profiles into another object store.
    Copy(copy::CopyArgs),
    /// Show what tenants and services have in an object store, and what it costs.
    Usage(usage::UsageArgs),
    /// Delete profiles, or see what would go.
    Delete(delete::DeleteArgs),
    /// Measure a running server.
    Bench(bench::BenchArgs),
}

/// Which server a verb talks to.
#[derive(Debug, Clone, Args)]
pub(crate) struct Remote {
    /// The server's URL.
    #[arg(long, env = "SCORIA_URL", default_value = "http://127.0.0.1:4040")]
    url: String,
    /// Tenant, where the server has several.
    #[arg(long, env = "SCORIA_TENANT")]
    tenant: Option<String>,
}

impl Remote {
    fn client(&self) -> anyhow::Result<crate::client::Client> {
        crate::client::Client::new(&self.url, self.tenant.as_deref())
    }
}

/// Runs the verb that the process was started with.
pub fn main() -> ExitCode {
    // A second provider would be refused, and then the first one serves.
    drop(rustls::crypto::ring::default_provider().install_default());
    let cli = Cli::parse();
    let exit = match runtime() {
        Ok(runtime) => runtime.block_on(run(cli.verb)),
        Err(error) => {
            output::complain(&format!("cannot start threads: {error}"));
            Exit::Failed
        }
    };
    ExitCode::from(exit as u8)
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .thread_name("scoria")
        .enable_all()
        .build()
}

async fn run(verb: Verb) -> Exit {
    let done = match verb {
        Verb::Server(args) => return server::run(args).await,
        Verb::Push(args) => push::run(args).await,
        Verb::Query(args) => query::run(args).await.map(|()| Exit::Done),
        Verb::Fsck(args) => fsck::run(args).await,
        Verb::Catalog(args) => catalogue::run(args).await,
        Verb::Block(args) => block::run(args).await,
        Verb::Copy(args) => copy::run(args).await,
        Verb::Usage(args) => usage::run(args).await,
        Verb::Delete(args) => delete::run(args).await.map(|()| Exit::Done),
        Verb::Bench(args) => bench::run(args).await.map(|()| Exit::Done),
    };
    done.unwrap_or_else(|error| {
        output::complain(&format!("{error:#}"));
        match error.is::<ConfigError>() {
            true => Exit::Usage,
            false => Exit::Failed,
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_exit_code_is_documented() {
        for exit in [
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::Address,
            Exit::Partly,
            Exit::Damaged,
            Exit::Interrupted,
        ] {
            let line = format!("\n  {} ", exit as u8);
            assert!(EXIT_CODES.contains(&line), "{exit:?}");
        }
    }
}
