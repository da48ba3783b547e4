//! The AppArmor profile that containerd puts on every container that names none, made as containerd makes it: from the
//! template in its own program.

use std::{env, fs, path::PathBuf};

use anyhow::{Context as _, Result, ensure};

/// The profile's name in containerd's CRI plugin.
pub const NAME: &str = "cri-containerd.apparmor.d";

/// The profile's text, for a parser of AppArmor 3 or newer that has the usual tunables and abstractions.
///
/// # Errors
/// containerd is not installed, or its template has something that is not known here.
pub fn of_containerd() -> Result<String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut candidates = env::split_paths(&path)
        .map(|folder| folder.join("containerd"))
        .chain([PathBuf::from("/usr/bin/containerd")]);
    let program = candidates.find(|path| path.is_file()).context("no containerd: run `cargo xtask setup`")?;
    let bytes = fs::read(&program).with_context(|| format!("read {}", program.display()))?;
    render(template(&bytes).with_context(|| format!("no template in {}", program.display()))?)
}

/// From the line that includes the tunables to the brace that ends the profile.
fn template(program: &[u8]) -> Option<&str> {
    const BEGIN: &[u8] = b"{{range $value := .Imports}}";
    let begin = program.windows(BEGIN.len()).position(|window| window == BEGIN)?;
    let rest = &program[begin..];
    let end = rest.windows(3).position(|window| window == b"\n}\n")?;
    str::from_utf8(&rest[..end + 3]).ok()
}

/// What Go's `text/template` would make of it, with containerd's own values.
fn render(template: &str) -> Result<String> {
    let lists =
        [(".Imports", "#include <tunables/global>"), (".InnerImports", "#include <abstractions/base>")];
    let mut text = template.to_owned();
    for (name, value) in lists {
        let begin = format!("{{{{range $value := {name}}}}}");
        let (before, rest) = text.split_once(&begin).with_context(|| format!("no {name}"))?;
        let (body, after) = rest.split_once("{{end}}").with_context(|| format!("{name} has no end"))?;
        text = format!("{before}{}{after}", body.replace("{{$value}}", value));
    }
    // Each condition asks for a parser older than any that is installed.
    while let Some((before, rest)) = text.split_once("{{if ge .Version 2") {
        let (_, rest) = rest.split_once("}}").context("a condition without an end")?;
        let (body, after) = rest.split_once("{{end}}").context("a condition without an end")?;
        text = format!("{before}{body}{after}");
    }
    let text = text.replace("{{.Name}}", NAME).replace("{{.DaemonProfile}}", "unconfined");
    ensure!(!text.contains("{{"), "containerd's template has something new:\n{text}");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = "\
{{range $value := .Imports}}
{{$value}}
{{end}}

profile {{.Name}} flags=(attach_disconnected,mediate_deleted) {
{{range $value := .InnerImports}}
  {{$value}}
{{end}}

  file,
{{if ge .Version 208096}}
  signal (receive) peer={{.DaemonProfile}},
{{end}}

  deny /sys/fs/[^c]*/** wklx,
}
";

    #[test]
    fn a_template_is_found_in_a_program_and_rendered() {
        let program = format!("\0before{TEMPLATE}after}}\n");
        let found = template(program.as_bytes()).expect("a template");
        assert_eq!(found, TEMPLATE);
        let text = render(found).expect("rendered");
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        assert_eq!(
            lines,
            [
                "#include <tunables/global>",
                "profile cri-containerd.apparmor.d flags=(attach_disconnected,mediate_deleted) {",
                "#include <abstractions/base>",
                "file,",
                "signal (receive) peer=unconfined,",
                "deny /sys/fs/[^c]*/** wklx,",
                "}",
            ]
        );
    }

    #[test]
    fn a_template_with_something_new_is_refused() {
        assert!(render(&TEMPLATE.replace("file,", "{{.Abi}}")).is_err());
    }
}
