//! Definitions that change while a program runs: what is noticed, and what is refused.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hookwire_engine::{InForce, ReloadState};
use hookwire_testkit::eventually;
use hookwire_worker::{ConfigArguments, LoadedConfig, Reloading, in_force};

/// A configuration in a temporary folder, kept up to date.
struct Case {
    folder: tempfile::TempDir,
    in_force: Arc<InForce>,
    _reloading: Reloading,
}

impl Case {
    /// `prepare` makes the files; `config` is what `--config` names.
    fn start(config: &str, prepare: impl FnOnce(&Path)) -> Case {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        let arguments = ConfigArguments::of_paths(vec![folder.path().join(config)]);
        let config = arguments.load().unwrap();
        let loaded = LoadedConfig::new(&arguments, &config);
        let in_force = in_force(config.definitions).unwrap();
        let reloading = Reloading::start(&arguments, loaded, Arc::clone(&in_force));
        Case { folder, in_force, _reloading: reloading }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// The URLs in force, in the order of the files.
    fn urls(&self) -> Vec<String> {
        let snapshot = self.in_force.snapshot();
        snapshot.definitions().webhooks().map(|webhook| webhook.webhook().url.to_string()).collect()
    }

    async fn until_urls(&self, expected: &[&str]) {
        eventually(&format!("{expected:?} in force"), async || (self.urls() == expected).then_some(())).await;
    }

    /// Waits for a refusal that says this, and gives the whole of it.
    async fn until_refused(&self, part: &str) -> String {
        let refused = eventually(&format!("a refusal with {part:?}"), async || {
            self.in_force.state().refused.filter(|refused| refused.message.contains(part))
        })
        .await;
        refused.message.replace(&self.folder.path().display().to_string(), "FOLDER")
    }

    fn state(&self) -> ReloadState {
        self.in_force.state()
    }
}

fn webhook(name: &str, url: &str) -> String {
    format!(
        "[[webhooks]]\nname = {name:?}\nurl = {url:?}\n[[event_rules]]\nname = {name:?}\nobject_types = [\"*\"]\nevent_types = [\"*\"]\nwebhooks = [{name:?}]\n"
    )
}

#[tokio::test]
async fn a_file_that_is_written_in_place_or_replaced_is_taken_up() {
    let case = Case::start("hookwire.toml", |folder| {
        std::fs::write(folder.join("hookwire.toml"), webhook("a", "http://localhost/1")).unwrap();
    });
    assert_eq!(case.urls(), ["http://localhost/1"]);
    assert_eq!(case.state().reloads, 0);
    case.write("hookwire.toml", &webhook("a", "http://localhost/2"));
    case.until_urls(&["http://localhost/2"]).await;
    // As editors and deployments do it.
    case.write("hookwire.toml.new", &webhook("a", "http://localhost/3"));
    std::fs::rename(case.path("hookwire.toml.new"), case.path("hookwire.toml")).unwrap();
    case.until_urls(&["http://localhost/3"]).await;
    assert_eq!(case.state().refused, None);
}

#[tokio::test]
async fn what_happens_beside_the_configuration_reloads_nothing() {
    let case = Case::start("hookwire.toml", |folder| {
        std::fs::write(folder.join("hookwire.toml"), webhook("a", "http://localhost/1")).unwrap();
    });
    for at in 0..100 {
        case.write("some.log", &"line\n".repeat(at));
    }
    std::fs::read(case.path("hookwire.toml")).unwrap();
    case.write("hookwire.toml", &webhook("a", "http://localhost/2"));
    case.until_urls(&["http://localhost/2"]).await;
    assert_eq!(case.state().reloads, 1);
}

#[tokio::test]
async fn what_does_not_check_is_refused_until_it_is_mended() {
    let case = Case::start("hookwire.toml", |folder| {
        std::fs::write(folder.join("hookwire.toml"), webhook("a", "http://localhost/1")).unwrap();
    });
    case.write("hookwire.toml", "[[webhooks]]\nname = \"a\"\nurl = 1\n");
    let message = case.until_refused("needs a string").await;
    assert_eq!(message, "FOLDER/hookwire.toml:3:7: webhooks[\"a\"].url: needs a string, has a number");
    // Removed, or emptied by somebody who is about to write it: neither stops what is sent.
    std::fs::remove_file(case.path("hookwire.toml")).unwrap();
    case.until_refused("it does not exist").await;
    case.write("hookwire.toml", "");
    case.until_refused("defines no webhook and no event rule").await;
    assert_eq!((case.urls(), case.state().reloads), (vec!["http://localhost/1".to_owned()], 0));
    case.write("hookwire.toml", &webhook("b", "http://localhost/2"));
    case.until_urls(&["http://localhost/2"]).await;
    assert_eq!((case.state().refused, case.state().reloads), (None, 1));
}

#[tokio::test]
async fn files_of_a_folder_come_and_go() {
    let case = Case::start("conf.d", |folder| {
        std::fs::create_dir(folder.join("conf.d")).unwrap();
        std::fs::write(folder.join("conf.d/a.toml"), webhook("a", "http://localhost/a")).unwrap();
    });
    case.write("conf.d/b.toml", &webhook("b", "http://localhost/b"));
    case.until_urls(&["http://localhost/a", "http://localhost/b"]).await;
    std::fs::remove_file(case.path("conf.d/a.toml")).unwrap();
    case.until_urls(&["http://localhost/b"]).await;
    std::fs::remove_file(case.path("conf.d/b.toml")).unwrap();
    case.until_refused("holds no .toml and no .json file").await;
    std::fs::remove_dir(case.path("conf.d")).unwrap();
    case.until_refused("it does not exist").await;
    assert_eq!(case.urls(), ["http://localhost/b"]);
    // A whole folder that takes the place of another.
    std::fs::create_dir(case.path("next")).unwrap();
    case.write("next/c.toml", &webhook("c", "http://localhost/c"));
    std::fs::rename(case.path("next"), case.path("conf.d")).unwrap();
    case.until_urls(&["http://localhost/c"]).await;
    case.write("conf.d/c.toml", &webhook("c", "http://localhost/d"));
    case.until_urls(&["http://localhost/d"]).await;
}

#[tokio::test]
#[cfg(unix)]
async fn a_link_that_is_swapped_is_followed() {
    use std::os::unix::fs::symlink;
    // As Kubernetes mounts a ConfigMap: hookwire.toml -> ..data/hookwire.toml, ..data -> ..one.
    let case = Case::start("hookwire.toml", |folder| {
        std::fs::create_dir(folder.join("..one")).unwrap();
        std::fs::write(folder.join("..one/hookwire.toml"), webhook("a", "http://localhost/1")).unwrap();
        symlink("..one", folder.join("..data")).unwrap();
        symlink("..data/hookwire.toml", folder.join("hookwire.toml")).unwrap();
    });
    for (folder, url) in [("..two", "http://localhost/2"), ("..three", "http://localhost/3")] {
        std::fs::create_dir(case.path(folder)).unwrap();
        case.write(&format!("{folder}/hookwire.toml"), &webhook("a", url));
        symlink(folder, case.path("..data_tmp")).unwrap();
        std::fs::rename(case.path("..data_tmp"), case.path("..data")).unwrap();
        case.until_urls(&[url]).await;
    }
}

#[tokio::test]
async fn secrets_and_certificates_are_read_again_when_their_files_change() {
    let with_secret = webhook("a", "http://localhost/1")
        .replace("[[event_rules]]", "secret_file = \"secrets/now\"\n[[event_rules]]");
    let case = Case::start("hookwire.toml", |folder| {
        std::fs::write(folder.join("hookwire.toml"), webhook("a", "http://localhost/1")).unwrap();
    });
    // The file that it names is not there yet; it mends the refusal when it comes.
    case.write("hookwire.toml", &with_secret);
    case.until_refused("it does not exist").await;
    std::fs::create_dir(case.path("secrets")).unwrap();
    case.write("secrets/now", "first");
    let secret = || {
        let snapshot = case.in_force.snapshot();
        let webhook = snapshot.definitions().webhooks().next().unwrap();
        webhook.webhook().secrets.first().map(|secret| secret.expose().to_owned())
    };
    for expected in ["first", "second"] {
        case.write("secrets/now", expected);
        eventually(expected, async || (secret().as_deref() == Some(expected)).then_some(())).await;
    }
}
