use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let mut input = io::Cursor::new(bytes);
        while let Ok(Some(_)) = read_frame(&mut input) {}
    }
}

/// An output that a test can look into while the connection lives.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn runner(state: &std::path::Path) -> Runner {
    Runner {
        prefix: vec![],
        identity: crate::identity::Identity::App,
        allowed: crate::identity::Allowed::default(),
        witness: crate::witness::Witness::open(&state.join("state")).unwrap(),
    }
}

/// Serves these bytes and gives the ids that were answered.
fn served(bytes: Vec<u8>) -> Vec<u64> {
    let state = tempfile::tempdir().unwrap();
    let output = Output::default();
    let _served = serve(
        runner(state.path()),
        None,
        io::Cursor::new(bytes),
        output.clone(),
    );
    let bytes = lock(&output.0).clone();
    let mut input = io::Cursor::new(bytes);
    let mut ids = Vec::new();
    while let Some(frame) = read_frame(&mut input).unwrap() {
        serde_json::from_slice::<Answer>(&frame.header).unwrap();
        ids.push(frame.id);
    }
    ids
}

fn framed(id: u64, header: &[u8], body: &[u8]) -> Vec<u8> {
    Frame {
        id,
        header: header.to_vec(),
        body: body.to_vec(),
    }
    .encode()
    .unwrap()
}

/// Headers that are requests, nearly requests, and nothing of the kind.
fn header() -> impl Strategy<Value = Vec<u8>> {
    let some = [
        r#"{"hello":{"version":2,"owner":"x"}}"#,
        r#"{"hello":{"version":9,"owner":"x"}}"#,
        r#"{"look":{"heal":"../../etc","wait_ms":0}}"#,
        r#"{"output":{"heal":"h1","step":4294967295,"offset":18446744073709551615,"budget":4294967295}}"#,
        r#"{"settle":{"heal":"h1","fence":18446744073709551615}}"#,
        r#"{"forget":{"heal":"h1","witness":true}}"#,
        r#"{"cancel":{"id":1}}"#,
        r#"{"room":{"path":"/proc/self/fd"}}"#,
        r#"{"round":{"target":{"root":"/nonexistent","uid":1,"gid":1},"checks":[],"deadline_ms":1}}"#,
        r#"{"stage":{"heal":"h1","digest":"00","offset":0,"last":true}}"#,
    ];
    prop_oneof![
        prop::sample::select(some.to_vec()).prop_map(|text| text.as_bytes().to_vec()),
        prop::sample::select(some.to_vec()).prop_flat_map(|text| {
            (0..text.len(), any::<u8>()).prop_map(move |(at, byte)| {
                let mut bytes = text.as_bytes().to_vec();
                bytes[at] = byte;
                bytes
            })
        }),
        prop::collection::vec(any::<u8>(), 0..40),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_frame_is_answered_once_whatever_it_holds(
        headers in prop::collection::vec(header(), 0..8),
        cut in 0_usize..4,
    ) {
        let mut bytes = Vec::new();
        for (id, header) in (100..).zip(&headers) {
            bytes.extend(framed(id, header, b"body"));
        }
        bytes.extend(vec![0; cut]); // a frame that is cut off
        let mut ids = served(bytes);
        ids.retain(|id| *id != 0); // the complaint about the cut one belongs to no request
        ids.sort_unstable();
        // Looks at nothing wait for nothing, so at the end of the input only changes are still being answered.
        let unique: BTreeSet<u64> = ids.iter().copied().collect();
        prop_assert_eq!(unique.len(), ids.len(), "answered twice");
        prop_assert!(ids.iter().all(|id| (100..100 + headers.len() as u64).contains(id)));
    }
}

#[test]
fn changes_are_answered_although_the_input_ended() {
    let mut bytes = framed(1, br#"{"hello":{"version":2,"owner":"x"}}"#, b"");
    for id in 2..20 {
        let header = format!(r#"{{"settle":{{"heal":"h{id}","fence":1}}}}"#);
        bytes.extend(framed(id, header.as_bytes(), b""));
    }
    let mut ids = served(bytes);
    ids.sort_unstable();
    assert_eq!(ids, (1..20).collect::<Vec<u64>>());
}
