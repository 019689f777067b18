//! How a shell is begun that tells what it runs, without a file at the target.
//!
//! The line that the target is asked to run holds no secret, since everybody there can see it: it stops the terminal's
//! echo, says hello, and reads on from the terminal. Only then does the gateway send the rest, with the key of this
//! shell. So nothing is typed into a program that is not the gateway's: a forced command never says hello.

use std::collections::VecDeque;
use std::time::Duration;

use russh::client::Msg as TargetMsg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use session::{Cleared, Guarded};
use tokio::time::{Instant, timeout_at};

use super::marker::{Key, greeting};

/// What the target runs in place of the account's shell. It is read by that shell, whichever it is, so it has nothing in
/// it that any of them reads otherwise.
pub(crate) const LINE: &str = r#"exec /bin/sh -c '__trailgate_tty=$(stty -g) && stty -echo && printf "\033]7313;hello;%s\007" "$SHELL" && IFS= read -r __trailgate_line && eval "$__trailgate_line"'"#;

/// Its answer to the hello: reads lines up to a single dot, and runs them. A terminal takes lines of up to 4,095 bytes.
const READ: &str = r#"__trailgate_text= __trailgate_break=$(printf '\nx') __trailgate_break=${__trailgate_break%x}; while IFS= read -r __trailgate_line && [ "$__trailgate_line" != . ]; do __trailgate_text=$__trailgate_text$__trailgate_line$__trailgate_break; done; eval "$__trailgate_text""#;

/// Any other shell is begun as a login shell, and tells nothing.
const OTHER: &str = "stty \"$__trailgate_tty\"\nexec \"$SHELL\" -l\n";

/// How long a target may take to say hello. What the client types waits as long.
const HELLO_TIME: Duration = Duration::from_secs(5);

/// Output before the hello that is kept until then; with more, the shell is not waited for.
const MAX_EARLY_BYTES: usize = 1 << 20;

/// Waits for the hello, and answers it. What the target sends meanwhile is put into `early`; it may be given up.
pub(crate) async fn hand_over(
    read: &mut ChannelReadHalf,
    early: &mut VecDeque<ChannelMsg>,
    write: &Guarded<ChannelWriteHalf<TargetMsg>>,
    cleared: &Cleared,
    key: &Key,
) {
    let deadline = Instant::now() + HELLO_TIME;
    let mut output = Vec::new();
    while let Ok(Some(message)) = timeout_at(deadline, read.wait()).await {
        let over = matches!(message, ChannelMsg::Eof | ChannelMsg::Close);
        if let ChannelMsg::Data { data } = &message {
            output.extend_from_slice(data);
        }
        early.push_back(message);
        if let Some((before, shell, after)) = greeting(&output) {
            early.retain(|message| !matches!(message, ChannelMsg::Data { .. }));
            early.push_front(ChannelMsg::Data { data: [before, after].concat().into() });
            // A target that is gone is noticed by the relay.
            let _ = write.forward(cleared).data_bytes(answer(&shell, key)).await;
            return;
        }
        if over || output.len() > MAX_EARLY_BYTES {
            return;
        }
    }
}

/// What is sent to whoever said hello.
fn answer(shell: &str, key: &Key) -> String {
    let name = shell.rsplit('/').next().unwrap_or_default();
    let text = match name {
        "bash" => include_str!("launch_bash.sh").replace("@SCRIPT@\n", include_str!("bash.sh")),
        "zsh" => include_str!("launch_zsh.sh").replace("@SCRIPT@\n", include_str!("zsh.sh")),
        _ => OTHER.to_owned(),
    };
    // Comments and indentation are for whoever reads the sources.
    let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut answer = format!("{READ}\n");
    for line in lines {
        answer.push_str(line);
        answer.push('\n');
    }
    answer.push_str(".\n");
    answer.replace("@KEY@", key.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_fits_into_a_terminal() {
        for shell in ["/bin/bash", "/usr/bin/zsh", "/bin/dash", ""] {
            let answer = answer(shell, &Key::new().unwrap());
            assert!(answer.lines().all(|line| line.len() < 1024), "{shell}");
            assert_eq!(answer.lines().filter(|line| *line == ".").count(), 1, "{shell}");
            assert!(
                !answer.contains('@'.to_string().repeat(2).as_str()) && !answer.contains("@KEY@"),
                "{shell}"
            );
            assert!(answer.bytes().all(|byte| byte == b'\n' || (0x20..0x7f).contains(&byte)), "{shell}");
        }
    }

    #[test]
    fn the_line_is_read_alike_by_all_shells() {
        // csh takes `!` inside quotes for its history, and no line break.
        assert!(!LINE.contains(['!', '\n']));
        assert_eq!(LINE.matches('\'').count(), 2);
    }
}
