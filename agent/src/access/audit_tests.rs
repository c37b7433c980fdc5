//! The chain shows every change, also a cut end.

use proptest::prelude::*;

use super::{super::testutil::at, *};

fn log(n: usize) -> (Vec<Vec<u8>>, Head) {
    let (mut lines, mut head) = (Vec::new(), Head::default());
    for i in 0..n {
        let event = Event::Lost { count: i as u64 };
        let (line, after) = head.next(event, at(i as u64)).unwrap();
        lines.push(line);
        head = after;
    }
    (lines, head)
}

fn verdict(lines: &[Vec<u8>], head: Option<&Head>) -> Verdict {
    let mut verifier = Verifier::default();
    lines.iter().for_each(|l| verifier.line(l));
    verifier.verdict(head)
}

#[test]
fn a_whole_log_is_whole_also_when_old_files_are_gone_and_the_head_is_one_behind() {
    let (lines, head) = log(10);
    let all = verdict(&lines, Some(&head));
    assert!(all.ok, "{:?}", all.faults);
    assert_eq!((all.lines, all.first, all.last), (10, 1, 10));
    assert!(verdict(&lines[4..], Some(&head)).ok);
    // The agent died between a batch of lines and the head.
    assert!(verdict(&lines, Some(&log(9).1)).ok);
    assert!(verdict(&log(76).0, Some(&head)).ok);
    assert!(verdict(&[], None).ok);
}

#[test]
fn a_cut_end_a_missing_head_and_a_forged_last_line_show() {
    let (lines, head) = log(10);
    assert!(!verdict(&lines[..9], Some(&head)).ok);
    assert!(!verdict(&lines, None).ok);
    assert!(!verdict(&log(77).0, Some(&head)).ok);
    let mut forged = lines.clone();
    forged[9] = String::from_utf8(forged[9].clone()).unwrap().replace("9}", "8}").into_bytes();
    assert!(!verdict(&forged, Some(&head)).ok);
    let cut = Event::Cut { head: 10, file: 9 };
    let (line, after) = head.next(cut, at(0)).unwrap();
    let mut told = lines[..9].to_vec();
    told.push(line);
    assert!(!verdict(&told, Some(&after)).ok, "a gap stays visible for ever");
}

#[test]
fn a_log_that_grew_while_it_was_read_reaches_the_head_before_and_is_not_far_ahead_of_the_one_after()
{
    let between = |lines: usize, before: usize, after: usize| {
        let mut verifier = Verifier::default();
        log(lines).0.iter().for_each(|l| verifier.line(l));
        verifier.verdict_between(Some(&log(before).1), Some(&log(after).1)).ok
    };
    assert!(between(200, 10, 500) && between(200, 10, 200) && between(200, 10, 134));
    assert!(!between(9, 10, 500) && !between(200, 10, 133));
}

proptest! {
    #[test]
    fn any_line_that_is_changed_left_out_doubled_or_moved_shows(
        at in 0..9_usize,
        how in 0..4_u8,
        byte in 0..60_usize,
    ) {
        let (mut lines, head) = log(10);
        match how {
            0 => {
                // One digit or letter into another: the line may still be JSON.
                let line = &mut lines[at];
                let at = byte % line.len();
                line[at] = if line[at] == b'7' { b'8' } else { b'7' };
            }
            1 => { lines.remove(at.max(1)); }
            2 => { let again = lines[at].clone(); lines.insert(at, again); }
            _ => lines.swap(at, at + 1),
        }
        prop_assert!(!verdict(&lines, Some(&head)).ok);
    }

    #[test]
    fn text_from_outside_is_plain_and_short(text in any::<String>()) {
        let plain = plain(&text);
        prop_assert!(plain.bytes().all(|b| (0x20..0x7f).contains(&b)));
        prop_assert!(plain.len() <= 200);
    }

    #[test]
    fn no_bytes_panic_the_verifier(lines in proptest::collection::vec(any::<Vec<u8>>(), 0..5)) {
        let faults = verdict(&lines, None).faults;
        prop_assert!(faults.len() <= MAX_FAULTS + 1);
    }
}
