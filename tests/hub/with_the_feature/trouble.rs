//! Hubs, networks and files that do what they should not.

use super::*;

#[test]
fn a_broken_connection_is_taken_up_where_it_broke() {
    let step = 9000;
    let cut = move |seen: &Seen, _: usize, reply: Reply| if seen.at_store { Reply { sent: Some(step), ..reply } } else { reply };
    let (hub, home) = (Hub::of(&golden_folder(SINGLE)).with(cut), tempfile::tempdir().unwrap());
    refused(&hub, home.path(), &["downloading `org/name`", "tried 5 times", "no whole answer", "what is downloaded is kept"]);
    assert_eq!(begun(&hub), [0, step, 2 * step, 3 * step, 4 * step]);
    // Another process goes on; nothing of a download that broke off has a name in the snapshot.
    let partial = names(root(home.path()).join("blobs")).into_iter().find(|name| name.ends_with(".incomplete")).unwrap();
    assert_eq!(fs::metadata(root(home.path()).join("blobs").join(&partial)).unwrap().len() as usize, 5 * step);
    assert!(!root(home.path()).join("snapshots").join(COMMIT).join(WEIGHTS).exists());
    assert!(!root(home.path()).join("refs").exists());
    hub.healed();
    assert_eq!(open(&hub, home.path(), "org/name").unwrap(), expected(&golden_folder(SINGLE)));
    assert_eq!(begun(&hub), [5 * step]);
    assert!(!root(home.path()).join("blobs").join(&partial).exists());
}

#[test]
fn a_store_that_cannot_continue_begins_again() {
    let whole = fs::read(golden_folder(SINGLE).join(WEIGHTS)).unwrap();
    let forgetful = move |seen: &Seen, before: usize, reply: Reply| match (seen.at_store, before) {
        (true, 0) => Reply { sent: Some(9000), ..reply },
        (true, _) => Reply { status: 200, headers: Vec::new(), body: whole.clone(), ..reply },
        _ => reply,
    };
    let (hub, home) = (Hub::of(&golden_folder(SINGLE)).with(forgetful), tempfile::tempdir().unwrap());
    assert_eq!(open(&hub, home.path(), "org/name").unwrap(), expected(&golden_folder(SINGLE)));
    assert_eq!(begun(&hub), [0, 9000]);
}

#[test]
fn content_with_another_checksum_is_removed() {
    for file in [WEIGHTS, "config.json"] {
        let spoil = move |seen: &Seen, _: usize, mut reply: Reply| {
            if seen.method == "GET" && reply.status == 200 && seen.path.contains(&format!("/{file}")) {
                reply.body[100] ^= 1;
            }
            reply
        };
        let (hub, home) = (Hub::of(&golden_folder(SINGLE)).with(spoil), tempfile::tempdir().unwrap());
        refused(&hub, home.path(), &[&format!("`{file}` arrived damaged"), "checksum", "open the model again"]);
        assert!(!names(root(home.path()).join("blobs")).iter().any(|name| name.ends_with(".incomplete")));
        assert!(!root(home.path()).join("snapshots").join(COMMIT).join(file).exists());
        hub.healed();
        assert_eq!(open(&hub, home.path(), "org/name").unwrap(), expected(&golden_folder(SINGLE)));
    }
}

#[test]
fn trouble_that_passes_is_waited_for() {
    let busy = |_: &Seen, before: usize, reply: Reply| match before {
        0 => Reply::status(429).header("Retry-After", "0"),
        1 => Reply::status(503).header("Retry-After", "0"),
        _ => reply,
    };
    let (hub, home) = (Hub::of(&golden_folder(SINGLE)).with(busy), tempfile::tempdir().unwrap());
    assert_eq!(open(&hub, home.path(), "org/name").unwrap(), expected(&golden_folder(SINGLE)));
    // But not for ever.
    let home = tempfile::tempdir().unwrap();
    let hub = hub.with(|_, _, _| Reply::status(500).header("Retry-After", "0"));
    hub.seen();
    refused(&hub, home.path(), &["tried 5 times", "HTTP 500", "try again later"]);
    assert_eq!(hub.seen().len(), 5);
    // What the hub asks for is kept to.
    let hub = hub.with(|seen, before, reply| match (seen.at_store, before) {
        (true, 0) => Reply::status(429).header("Retry-After", "2"),
        _ => reply,
    });
    let begun = Instant::now();
    open(&hub, home.path(), "org/name").unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(2));
}

#[test]
fn a_killed_download_is_taken_up() {
    let step = 20_000;
    // After the first piece the child waits before it asks again; then it is killed.
    let cut = move |seen: &Seen, _: usize, reply: Reply| if seen.at_store { Reply { sent: Some(step), ..reply } } else { reply };
    let hub = Hub::of(&golden_folder(SINGLE)).with(cut);
    let home = tempfile::tempdir().unwrap();
    let mut child = start(&hub.address, home.path(), "org/name", &[]);
    let blobs = root(home.path()).join("blobs");
    let deadline = Instant::now() + Duration::from_secs(120);
    let partial = || names(blobs.clone()).into_iter().find(|name| name.ends_with(".incomplete"));
    let length = || partial().and_then(|name| fs::metadata(blobs.join(name)).ok()).map_or(0, |file| file.len() as usize);
    while length() < step {
        assert!(Instant::now() < deadline, "the child downloads nothing");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let kept = length();
    hub.healed();
    hub.seen();
    assert_eq!(open(&hub, home.path(), "org/name").unwrap(), expected(&golden_folder(SINGLE)));
    assert_eq!(begun(&hub), [kept]);
}

#[test]
fn an_interrupted_download_keeps_what_is_there_and_is_taken_up() {
    let whole = fs::metadata(golden_folder(SINGLE).join(WEIGHTS)).unwrap().len() as usize;
    let drip = |seen: &Seen, _: usize, reply: Reply| match seen.at_store {
        // In pieces, so that there is something between two questions.
        true => Reply { drip: Some(Duration::from_micros(200)), ..reply },
        false => reply,
    };
    let (hub, home) = (Hub::of(&golden_folder(SINGLE)).with(drip), tempfile::tempdir().unwrap());
    let mut kept = Vec::new();
    for asks in [0, 1, 3, 6, 10, 20, 40, 80] {
        let error = finish(start(&hub.address, home.path(), "org/name", &[(FUSE, &asks.to_string())])).unwrap_err();
        assert!(error.contains("interrupted: opening org/name"), "{asks}: {error}");
        let there = names(root(home.path()).join("blobs")).into_iter().find(|name| name.ends_with(".incomplete"));
        kept.push(there.map_or(0, |name| fs::metadata(root(home.path()).join("blobs").join(name)).unwrap().len() as usize));
        assert!(!root(home.path()).join("snapshots").join(COMMIT).join(WEIGHTS).exists());
    }
    let most = *kept.last().unwrap();
    assert!(kept.is_sorted() && 0 < most && most < whole, "{kept:?} of {whole}");
    hub.healed();
    hub.seen();
    assert_eq!(open(&hub, home.path(), "org/name").unwrap(), expected(&golden_folder(SINGLE)));
    assert_eq!(begun(&hub), [most], "{kept:?}");
}

#[test]
fn a_signal_ends_the_wait_for_a_hub_that_is_silent() {
    // Before it answers, in the middle of its content, and while it asks for patience.
    let silent: [fn(&Seen, Reply) -> Reply; 3] = [
        |_, reply| Reply { pause: Duration::from_secs(100), ..reply },
        |seen, reply| if seen.at_store { Reply { drip: Some(Duration::from_secs(100)), ..reply } } else { reply },
        |_, _| Reply::status(503).header("Retry-After", "100"),
    ];
    for (case, fault) in silent.into_iter().enumerate() {
        let (hub, home) = (Hub::of(&golden_folder(SINGLE)).with(move |seen, _, reply| fault(seen, reply)), tempfile::tempdir().unwrap());
        let child = start(&hub.address, home.path(), "org/name", &[(LISTEN, "1")]);
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut seen = Vec::new();
        while !seen.iter().any(|seen: &Seen| case != 1 || seen.at_store) {
            assert!(Instant::now() < deadline, "the child asks nothing");
            std::thread::sleep(Duration::from_millis(20));
            seen.extend(hub.seen());
        }
        std::thread::sleep(Duration::from_millis(300));
        let began = Instant::now();
        // SAFETY: a child that has not been waited for.
        assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
        let error = finish(child).unwrap_err();
        assert!(error.contains("interrupted: opening org/name") && error.contains("goes on from there"), "{case}: {error}");
        assert!(began.elapsed() < Duration::from_secs(10), "{case}: after {:?}", began.elapsed());
    }
}

#[test]
fn an_index_cannot_lead_out_of_the_folder() {
    for shard in ["../../x.safetensors", "/etc/passwd", "x.safetensors?a", "absent.safetensors"] {
        let index = serde_json::json!({ "weight_map": { "w": shard } }).to_string();
        let files = [("config.json", "{}".to_owned()), ("model.safetensors.index.json", index)];
        let hub = Hub::serve(files.into_iter().map(|(name, text)| (name.to_owned(), text.into_bytes())).collect());
        let home = tempfile::tempdir().unwrap();
        refused(&hub, home.path(), &["choose another revision"]);
        assert!(hub.seen().iter().all(|seen| !seen.path.contains(shard)));
    }
}

#[test]
fn a_file_of_absurd_size_is_refused_before_it_is_asked_for() {
    for size in [u64::MAX, u64::MAX - 1, 1 << 45] {
        let boast = move |seen: &Seen, _: usize, mut reply: Reply| {
            if seen.method == "HEAD" && seen.path.contains(WEIGHTS) {
                reply.headers.retain(|(name, _)| *name != "X-Linked-Size");
                reply = reply.header("X-Linked-Size", size.to_string());
            }
            reply
        };
        let (hub, home) = (Hub::of(&golden_folder(SINGLE)).with(boast), tempfile::tempdir().unwrap());
        refused(&hub, home.path(), &[&format!("announces {size} bytes for `{WEIGHTS}`"), "HF_ENDPOINT"]);
        assert!(hub.seen().iter().all(|seen| !seen.at_store));
    }
}

#[test]
fn a_hub_that_drips_is_given_up() {
    // Of the content, and of the list of files.
    for listing in [false, true] {
        let drip = move |seen: &Seen, _: usize, reply: Reply| match seen.at_store || (listing && seen.path.starts_with("/api/")) {
            true => Reply { drip: Some(Duration::from_millis(100)), ..reply },
            false => reply,
        };
        let (hub, home) = (Hub::of(&golden_folder(SINGLE)).with(drip), tempfile::tempdir().unwrap());
        let error = finish(start(&hub.address, home.path(), "org/name", &[("HF_HUB_DOWNLOAD_TIMEOUT", "1")])).unwrap_err();
        for word in ["tried 5 times", "bytes came in 1 s", "check the network"] {
            assert!(error.contains(word), "`{word}` is missing in: {error}");
        }
    }
}

#[test]
fn a_planted_link_is_not_written_through() {
    let (hub, home) = (Hub::of(&golden_folder(SINGLE)), tempfile::tempdir().unwrap());
    let checksum = sha256(&fs::read(golden_folder(SINGLE).join(WEIGHTS)).unwrap());
    let (blobs, locks) = (root(home.path()).join("blobs"), home.path().join("hub/.locks/models--org--name"));
    let (victim, other) = (home.path().join("victim"), home.path().join("other"));
    fs::write(&victim, "mine").unwrap();
    fs::create_dir_all(&blobs).unwrap();
    fs::create_dir_all(&locks).unwrap();
    std::os::unix::fs::symlink(&victim, blobs.join(format!("{checksum}.ia2.incomplete"))).unwrap();
    std::os::unix::fs::symlink(&other, locks.join(format!("{checksum}.lock"))).unwrap();
    assert_eq!(open(&hub, home.path(), "org/name").unwrap(), expected(&golden_folder(SINGLE)));
    assert_eq!((fs::read_to_string(&victim).unwrap(), other.exists()), ("mine".to_owned(), false));
    assert!(!blobs.join(&checksum).is_symlink());
}
