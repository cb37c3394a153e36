//! Two commands of one agent, and the agent: of one uid and one box, and yet strangers.

use crate::support::{all, landlock, platform, text};
use base64::Engine;
use serde_json::{Value, json};
use testkit::Repo;

/// Goes for every process but its own: a line for each thing tried, with the status of the try. The victim's own
/// process id and the agent's are tried by number too, for what `/proc` does not list may still be there.
const GO: &str = r#"
i=0; while [ $i -lt 2000 ] && ! [ -s /workspace/pid ]; do sleep 0.05; i=$((i+1)); done
victim=$(cat /workspace/pid)
for n in 1 2 3 4 5 6 7 8 $victim; do
  [ $n = $$ ] && continue
  [ $n = $victim ] && who=victim || who=$n
  for f in environ mem maps fd/0 root/etc/passwd cwd/max.c; do
    head -c 1 /proc/$n/$f >/dev/null 2>&1; echo "$who $f $?"
  done
  (echo x > /proc/$n/fd/1) 2>/dev/null; echo "$who write-to-output $?"
  kill -0 $n 2>/dev/null; echo "$who signal $?"
done
head -c 1 /proc/$$/environ >/dev/null; echo "control own-environ $?"
kill -0 $$; echo "control own-signal $?"
echo over > /workspace/over
"#;

/// Lives until the other one is done, and says how it fared.
const VICTIM: &str = r#"
echo $$ > /workspace/pid.new; mv /workspace/pid.new /workspace/pid
i=0; while [ $i -lt 2000 ] && ! [ -s /workspace/over ]; do sleep 0.05; i=$((i+1)); done
[ -s /workspace/over ] && echo "control at-once 0"
"#;

#[test]
fn a_command_reaches_neither_the_agent_nor_another_command_of_it() {
    let platform = platform();
    let repo = Repo::failing();
    let shell = |command: &str| json!({"name": "shell", "input": {"command": command, "timeout": 500}});
    let turns = json!([{"text": "Both at once.", "tools": [shell(VICTIM), shell(GO)]}, {"text": "Done."}]);
    platform.script("pair", &turns, "sk-test-only-key-of-a-scripted-model");
    let out = platform.cli(&["run", "--repo", repo.path_str(), "--model", "pair", "--json", "play"]);
    assert!(out.status.success(), "{}", all(&out));
    let mut said = Vec::new();
    for line in text(&out.stdout).lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        if entry["event"]["kind"] == "output" {
            let data = entry["event"]["data_b64"].as_str().unwrap();
            said.extend(base64::engine::general_purpose::STANDARD.decode(data).unwrap());
        }
    }
    let said = text(&said);
    for control in ["own-environ", "own-signal", "at-once"] {
        assert!(said.contains(&format!("control {control} 0")), "{control}: {said}");
    }
    let signals = landlock(&platform) >= 6;
    let tried: Vec<&str> = said.lines().filter(|line| !line.starts_with("control")).collect();
    assert!(tried.iter().filter(|line| line.starts_with("victim")).count() >= 8, "{said}");
    for line in tried {
        // Before level 6 one uid may signal itself.
        assert!(!line.ends_with(" 0") || line.contains("signal") && !signals, "WENT THROUGH: {line}\n{said}");
    }
}
