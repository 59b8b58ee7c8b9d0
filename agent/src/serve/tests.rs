use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let mut input = io::Cursor::new(bytes);
        while let Ok(Some(_)) = read_frame(&mut input) {}
    }
}
