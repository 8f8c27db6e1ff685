//! The one entry for checks and tests: `cargo xtask check | test | autobahn | services | prove`.
//!
//! | module | what it holds |
//! |---|---|
//! | `check` | formatting, lints, docs, licences, and the rule of who may import whom |
//! | `rules` | that rule, and how it is read out of manifests and sources |
//! | `outside` | a transport and a store that are no members of the workspace, checked and tested with it |
//! | `test` | getting what the tests need, and running them all |
//! | `autobahn` | the Autobahn cases against the WebSocket transport's codec |
//! | `databases` | database servers: their packages, and running ones for tests and for work by hand |
//! | `prove` | the long proofs, with a count |
//! | `tools` | what is fetched, and where it is put |
//! | `run` | running programs under headings, with their times |

use std::process::ExitCode;

mod autobahn;
mod check;
mod databases;
mod outside;
mod prove;
mod rules;
mod run;
mod test;
mod tools;

const HELP: &str = "\
The one entry for checks and tests.

  cargo xtask check                 formatting, clippy, docs, licences, who may import whom
  cargo xtask test [FILTER]         gets what the tests need, builds, runs all tests
  cargo xtask autobahn [CASE ...]   the Autobahn cases against the WebSocket transport's codec; CASE is one, or many as 6.*
  cargo xtask services              runs PostgreSQL and MariaDB for work by hand, and prints how to use them
  cargo xtask prove WHAT [OPTIONS]  the long proofs; WHAT is kills, power, faults, soak, replay, frames or all

Options of prove:
  --count N          how many kills or power cuts (1000 by default), how many faults of the disk (by default each call to it
                     in each way), how many rounds of soak (10 by default), how many seeds of frames (1 by default)
  --store NAME       the store that is killed, cut off and made to fail: sled or sqlite; for kills also postgres or mariadb,
                     where every fifth kill is of a server of the run's own (all by default)
  --transport NAME   what replay and frames go over: ws, sse, long, short; for replay also mix (all by default)
  --subscriptions N  how many subscriptions frames look at over each transport (10,000 by default)
  --data FILE        the chat log that soak replays (the sample in im-bench by default), and replay (made up by default)
  --shard I/N        every N-th part of all this from the I-th; with enough shards each takes less than an hour
  --resume           skip parts that have passed on the same code; target/xtask/proved.txt says which, on which commit
  --list             say which parts there are, and which have passed

Everything that is fetched goes into target/xtask and is used again. The first failure stops the run and says what to
do about it.

Environment of `test`; what is set already is left as it is:
  IM_TEST_REQUIRE=all            a test that would be skipped fails instead
  IM_TEST_CHROMIUM               the browser's binary
  IM_TEST_KOSOKU                 kosoku's program, which runs the Autobahn cases
  IM_TEST_MYSQL_URL              a running MariaDB or MySQL: mysql://user:password@host:port/database
  IM_TEST_NGINX                  nginx's binary
  IM_TEST_NODE_MODULES_<FOLDER>  node_modules with what tests/<folder>/package.json names
  IM_TEST_POSTGRES_URL           a running PostgreSQL: postgres://user:password@host:port/database
  IM_TEST_PYTHON                 a Python with what tests/*/requirements.txt name
  IM_TEST_SKIPPED                a file to which a skipped test adds a line with its name and the reason
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let asks_help = words.iter().any(|word| matches!(*word, "-h" | "--help"));
    let outcome = match words.as_slice() {
        _ if asks_help => {
            print!("{HELP}");
            Ok(())
        }
        ["check"] => check::all(),
        ["test", rest @ ..] if rest.len() <= 1 => test::all(rest.first().copied()),
        ["autobahn", patterns @ ..] => autobahn::all(patterns),
        ["services"] => databases::serve(),
        ["prove", rest @ ..] => prove::parse(rest).and_then(|plan| prove::all(&plan)),
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nfailed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
