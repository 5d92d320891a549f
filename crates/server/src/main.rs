//! The program `scoria`; everything is in the library, so that tests can run it in their process.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: scoria_allocator::Allocator = scoria_allocator::Allocator;

fn main() -> ExitCode {
    scoria_server::cli::main()
}
