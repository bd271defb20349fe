//! For any tree and any format: what was packed is extracted unchanged.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::make::{self, MTIME};
use super::{Node, Tree, comes_out, extract};

/// A name of one or a few characters, including difficult ones.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-d]{1,2}",
        1 => "[a-zA-Z0-9 ._üß日\\\\*:-]{1,12}",
        1 => "[a-z]{120,200}",
    ]
    .prop_filter("no dots alone", |name| !matches!(name.as_str(), "." | ".."))
}

fn node() -> impl Strategy<Value = Node> {
    let mode = prop_oneof![Just(0o644), Just(0o755), Just(0o600), Just(0o444), Just(0o640)];
    let content = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..300),
        1 => (any::<u8>(), 0..200_000_usize).prop_map(|(byte, n)| vec![byte; n]),
    ];
    prop_oneof![
        6 => (content, mode).prop_map(|(content, mode)| Node::File { content, mode, mtime: MTIME }),
        1 => prop_oneof![Just(0o755), Just(0o700), Just(0o750)].prop_map(|mode| Node::Dir { mode }),
        1 => name().prop_map(|target| Node::Link { target: target.into_bytes() }),
    ]
}

/// A tree that lists every directory above a path.
fn trees() -> impl Strategy<Value = Tree> {
    prop::collection::vec((prop::collection::vec(name(), 1..5), node()), 0..25).prop_map(|nodes| {
        let mut tree: Tree = BTreeMap::new();
        for (parts, node) in nodes {
            let above: Vec<_> = (1..parts.len()).map(|n| parts[..n].join("/").into_bytes()).collect();
            let free = above.iter().all(|dir| matches!(tree.get(dir), None | Some(Node::Dir { .. })));
            let path = parts.join("/").into_bytes();
            if !free || tree.contains_key(&path) {
                continue;
            }
            for dir in above {
                tree.entry(dir).or_insert(Node::Dir { mode: 0o755 });
            }
            tree.insert(path, node);
        }
        // A link to itself, or in a cycle, is refused on purpose.
        let links: Vec<_> = tree
            .iter()
            .filter(|(_, node)| matches!(node, Node::Link { .. }))
            .map(|(p, _)| p.clone())
            .collect();
        for path in links {
            let Some(Node::Link { target }) = tree.get(&path) else { continue };
            let beside = match path.iter().rposition(|&b| b == b'/') {
                Some(slash) => [&path[..=slash], target].concat(),
                None => target.clone(),
            };
            if matches!(tree.get(&beside), Some(Node::Link { .. })) {
                tree.remove(&path);
            }
        }
        tree
    })
}

/// Removes what the writer of a format does not store: that of zip stores no times.
fn forget(tree: Tree, suffix: &str) -> Tree {
    let fix = |node| match node {
        Node::File { content, mode, .. } if suffix == "zip" => Node::File { content, mode, mtime: 0 },
        other => other,
    };
    tree.into_iter().map(|(path, node)| (path, fix(node))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 500, ..ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(16)
    ) })]

    #[test]
    fn any_tree_comes_out_of_any_format(tree in trees()) {
        for suffix in super::kinds::SUFFIXES {
            let name = format!("x.{suffix}");
            let found = comes_out(&name, &make::archive(&name, &tree));
            prop_assert_eq!(forget(found, suffix), forget(tree.clone(), suffix), "{}", suffix);
        }
    }

    /// The library that wrote a zip reads the same content from it.
    #[test]
    fn any_zip_is_read_as_its_library_reads_it(tree in trees()) {
        let bytes = make::archive("x.zip", &tree);
        let (extracted, found) = extract("x.zip", &bytes).unwrap();
        let mut archive = zip::ZipArchive::new(std::io::Cursor::new(&bytes)).unwrap();
        prop_assert_eq!(extracted.members, archive.len() as u64);
        for i in 0..archive.len() {
            let mut member = archive.by_index(i).unwrap();
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut member, &mut content).unwrap();
            let name = member.name().unwrap().into_owned();
            let mode = member.unix_mode().unwrap() & 0o777;
            let read = match &found[name.trim_end_matches('/').as_bytes()] {
                Node::File { mtime, .. } => Node::File { content, mode, mtime: *mtime },
                Node::Dir { .. } => Node::Dir { mode },
                Node::Link { .. } => Node::Link { target: content },
            };
            prop_assert_eq!(&read, &found[name.trim_end_matches('/').as_bytes()]);
        }
    }

    #[test]
    fn no_bytes_at_all_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let magics: [(&str, &[u8]); 8] = [
            ("x.zip", b"PK\x03\x04"), ("x.zip", b"PK\x05\x06"), ("x.7z", b"7z\xbc\xaf\x27\x1c\0\x04"), ("x.gz", b"\x1f\x8b\x08"),
            ("x.bz2", b"BZh9"), ("x.xz", b"\xfd7zXZ\0"), ("x.zst", b"\x28\xb5\x2f\xfd"), ("x.tar.gz", b"\x1f\x8b\x08\0"),
        ];
        for (name, magic) in magics {
            let n = magic.len().min(bytes.len());
            bytes[..n].copy_from_slice(&magic[..n]);
            prop_assert!(extract(name, &bytes).is_err() || name == "x.zst");
        }
    }

    #[test]
    fn names_become_paths_or_errors(name in prop::collection::vec(prop_oneof![Just(b'/'), Just(b'.'), Just(b'a'), any::<u8>()], 0..40)) {
        let limits = super::ExtractLimits::default();
        if let Ok(path) = super::super::name::parse(&name, &limits) {
            let parts: Vec<_> = name.split(|&b| b == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
            prop_assert_eq!(path.as_bytes(), parts.join(&b'/'));
        }
    }
}
