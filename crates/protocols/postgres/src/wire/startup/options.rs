//! The startup parameter `options`: a command line for the server process. Split as the server's
//! `pg_split_opts` does and read as its `process_postgres_switches` does, so that nothing is set there which
//! was not seen here.

/// Options of the gateway's own begin with this and never reach a target.
const OWN_PREFIX: &[u8] = b"trailgate.";

/// The switches that a client may give (`getopt`'s string in the server, versions 10 to 18): those that take an
/// argument. `-` is the one of `--name=value`.
const WITH_ARGUMENT: &[u8] = b"BCDcdfhkNprStvW-";

/// A setting that a client asks for at startup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The name in lower case: the server ignores case.
    pub name: String,
    /// The value as sent.
    pub value: Vec<u8>,
}

/// The parameter `options`, understood.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// Settings for the server, in order; a later one wins.
    pub settings: Vec<Setting>,
    /// Settings for the gateway, without their prefix; a later one wins.
    pub own: Vec<Setting>,
    /// What to pass to the target: the client's own bytes unless something of ours had to go. `None` if nothing
    /// is left.
    pub forwarded: Option<Vec<u8>>,
}

impl Options {
    /// Reads the parameter. What the server would refuse is passed on, so that the server refuses it.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let words = split(text);
        let mut options = Self::default();
        let mut kept: Vec<&[u8]> = Vec::with_capacity(words.len());
        let mut words = words.iter().map(Vec::as_slice);
        while let Some(word) = words.next() {
            match word {
                // getopt stops here; what follows are arguments, which the server refuses.
                b"--" => {
                    kept.push(word);
                    kept.extend(words.by_ref());
                }
                [b'-', switches @ ..] if !switches.is_empty() => {
                    options.switches(word, switches, &mut words, &mut kept);
                }
                // Not a switch: getopt looks on, and the server refuses it in the end.
                _ => kept.push(word),
            }
        }
        if options.own.is_empty() {
            options.forwarded = Some(text.to_vec()).filter(|text| !text.is_empty());
        } else if !kept.is_empty() {
            options.forwarded = Some(join(&kept));
        }
        options
    }

    /// The last value of a setting of the gateway's own.
    #[must_use]
    pub fn own(&self, name: &str) -> Option<&[u8]> {
        self.own.iter().rev().find(|setting| setting.name == name).map(|setting| setting.value.as_slice())
    }

    /// One word of switches: `-c name=value`, `-cname=value`, `--name=value`, or several in one (`-ec …`).
    fn switches<'a>(
        &mut self,
        word: &'a [u8],
        switches: &'a [u8],
        words: &mut impl Iterator<Item = &'a [u8]>,
        kept: &mut Vec<&'a [u8]>,
    ) {
        let with_argument = switches.iter().position(|switch| WITH_ARGUMENT.contains(switch));
        let (before, rest) = switches.split_at(with_argument.unwrap_or(switches.len()));
        for switch in before {
            self.flag(*switch);
        }
        if rest.is_empty() {
            kept.push(word);
            return;
        }
        let Some((switch, attached)) = rest.split_first() else { return };
        let separate = if attached.is_empty() { words.next() } else { None };
        let argument = separate.unwrap_or(attached);
        let own = match switch {
            b'c' | b'-' => self.setting(argument),
            b'S' => self.record("work_mem", argument),
            b'd' => self.record("log_min_messages", argument),
            b't' => self.record("log_statement_stats", argument),
            _ => false,
        };
        if !own {
            kept.push(word);
            kept.extend(separate);
        } else if !before.is_empty() {
            kept.push(word.get(..=before.len()).unwrap_or_default());
        }
    }

    /// `name=value`; a `-` in the name stands for `_` (`ParseLongOption`). Returns whether it is the gateway's.
    fn setting(&mut self, argument: &[u8]) -> bool {
        let Some(equals) = argument.iter().position(|byte| *byte == b'=') else { return false };
        let (name, value) = argument.split_at(equals);
        let name: Vec<u8> =
            name.iter().map(|byte| if *byte == b'-' { b'_' } else { byte.to_ascii_lowercase() }).collect();
        let value = value.get(1..).unwrap_or_default();
        match name.strip_prefix(OWN_PREFIX) {
            Some(own) => {
                let name = String::from_utf8_lossy(own).into_owned();
                self.own.push(Setting { name, value: value.to_vec() });
                true
            }
            None => self.record(&String::from_utf8_lossy(&name), value),
        }
    }

    /// A switch that stands for a setting by itself.
    fn flag(&mut self, switch: u8) {
        let name = match switch {
            b'O' => "allow_system_table_mods",
            b'P' => "ignore_system_indexes",
            b's' => "log_statement_stats",
            _ => return,
        };
        self.record(name, b"on");
    }

    fn record(&mut self, name: &str, value: &[u8]) -> bool {
        self.settings.push(Setting { name: name.to_owned(), value: value.to_vec() });
        false
    }
}

/// C's `isspace` in the C locale.
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// Words between white space; a backslash takes the next byte as it is.
fn split(text: &[u8]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut bytes = text.iter().copied().peekable();
    loop {
        while bytes.next_if(|byte| is_space(*byte)).is_some() {}
        if bytes.peek().is_none() {
            return words;
        }
        let mut word = Vec::new();
        while let Some(byte) = bytes.next_if(|byte| !is_space(*byte)) {
            if byte == b'\\' {
                word.extend(bytes.next());
            } else {
                word.push(byte);
            }
        }
        words.push(word);
    }
}

/// The reverse of [`split`].
fn join(words: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for (place, word) in words.iter().enumerate() {
        if place > 0 {
            out.push(b' ');
        }
        for byte in *word {
            if is_space(*byte) || *byte == b'\\' {
                out.push(b'\\');
            }
            out.push(*byte);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings(text: &str) -> Vec<(String, String)> {
        let options = Options::parse(text.as_bytes());
        let text = |value: Vec<u8>| String::from_utf8(value).unwrap();
        options.settings.into_iter().map(|setting| (setting.name, text(setting.value))).collect()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn every_way_to_write_a_setting_is_seen() {
        for text in [
            "-c role=admin",
            "-crole=admin",
            "--role=admin",
            "--ROLE=admin",
            "  -c\trole=admin ",
            "-ec role=admin",
            "-c ro\\le=\\admin",
            "stray -c role=admin",
        ] {
            assert_eq!(settings(text), [pair("role", "admin")], "{text}");
        }
        assert_eq!(
            settings("-c search_path=a\\ b,c -c geqo=off"),
            [pair("search_path", "a b,c"), pair("geqo", "off")]
        );
        assert_eq!(
            settings("--standard-conforming-strings=off"),
            [pair("standard_conforming_strings", "off")]
        );
        assert_eq!(settings("-S 1024"), [pair("work_mem", "1024")]);
        let on = |name| pair(name, "on");
        assert_eq!(settings("-OPe"), [on("allow_system_table_mods"), on("ignore_system_indexes")]);
        assert_eq!(settings("-sd 5"), [on("log_statement_stats"), pair("log_min_messages", "5")]);
    }

    #[test]
    fn what_is_no_setting_is_none() {
        // `-D` takes the next word, as the server has it, so that there is no role here.
        assert_eq!(settings("-D -crole=admin"), []);
        assert_eq!(settings("-- -c role=admin"), []);
        assert_eq!(settings("-c role"), []);
        assert_eq!(settings("-c"), []);
        assert_eq!(settings("-"), []);
    }

    #[test]
    fn our_own_settings_do_not_reach_the_target() {
        let parse = |text: &str| {
            let options = Options::parse(text.as_bytes());
            let forwarded = options.forwarded.clone().map(|bytes| String::from_utf8(bytes).unwrap());
            (options.own("auth").map(<[u8]>::to_vec), forwarded)
        };
        let cleartext = Some(b"cleartext".to_vec());
        assert_eq!(parse("-c trailgate.auth=cleartext"), (cleartext.clone(), None));
        assert_eq!(parse("--trailgate.auth=x -ctrailgate.auth=cleartext"), (cleartext.clone(), None));
        assert_eq!(
            parse("-c a=b\\ c -c trailgate.auth=cleartext -c d=e"),
            (cleartext.clone(), Some("-c a=b\\ c -c d=e".to_owned()))
        );
        assert_eq!(parse("-ec trailgate.auth=cleartext"), (cleartext, Some("-e".to_owned())));
        assert_eq!(parse("-c  a=b "), (None, Some("-c  a=b ".to_owned())));
        assert_eq!(parse(""), (None, None));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text: Vec<u8>) {
            let options = Options::parse(&text);
            if options.own.is_empty() && !text.is_empty() {
                prop_assert_eq!(options.forwarded, Some(text));
            }
        }

        #[test]
        fn joined_words_split_into_the_same(words in prop::collection::vec("[ -~]{1,12}", 0..6)) {
            let words: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
            prop_assert_eq!(split(&join(&words)), words);
        }

        #[test]
        fn dropping_ours_keeps_all_others(
            before in "[a-z]{1,8}", value in "[ -~]{0,8}", task in "[a-z ]{0,8}", after in "[a-z]{1,8}"
        ) {
            let words = [
                "-c".to_owned(), format!("{before}={value}"),
                "-c".to_owned(), format!("trailgate.task={task}"),
                format!("--{after}=x"),
            ];
            let words: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
            let options = Options::parse(&join(&words));
            prop_assert_eq!(options.own("task"), Some(task.as_bytes()));
            let again = Options::parse(&options.forwarded.clone().unwrap_or_default());
            prop_assert!(again.own.is_empty());
            prop_assert_eq!(again.settings, options.settings);
        }
    }
}
