//! What the kernel refuses for the moment is asked for again: since 6.13 an allocation can fail with ENOMEM while memory is free, and a map
//! can be busy.
//!
//! Bounds: [`TRIES`] tries, with pauses from [`FIRST_PAUSE`] that double: 310 ms in all.

use std::{io, thread::sleep, time::Duration};

use nix::libc;

/// How often something is tried.
pub(super) const TRIES: u32 = 6;
/// Pause after the first try.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// Whether the same request may be granted a moment later.
pub(super) fn is_for_the_moment(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::EBUSY | libc::EAGAIN | libc::EINTR))
}

/// Asks again while the answer is "not now".
pub(super) fn patiently<T>(ask: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    with_pauses(ask, sleep)
}

fn with_pauses<T>(
    mut ask: impl FnMut() -> io::Result<T>,
    mut pause: impl FnMut(Duration),
) -> io::Result<T> {
    for tried in 0..TRIES - 1 {
        match ask() {
            Err(error) if is_for_the_moment(&error) => pause(FIRST_PAUSE * (1 << tried)),
            answer => return answer,
        }
    }
    ask()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Errors one after the other, then success: the outcome, how often it was asked, and how long it waited.
    fn asked(errors: &[i32]) -> (Result<(), Option<i32>>, usize, Duration) {
        let (mut times, mut waited) = (0, Duration::ZERO);
        let outcome = with_pauses(
            || {
                times += 1;
                errors
                    .get(times - 1)
                    .map_or(Ok(()), |code| Err(io::Error::from_raw_os_error(*code)))
            },
            |pause| waited += pause,
        );
        (outcome.map_err(|error| error.raw_os_error()), times, waited)
    }

    #[test]
    fn what_is_refused_for_the_moment_is_asked_for_again_and_not_for_ever() {
        let pause = Duration::from_millis;
        assert_eq!(asked(&[]), (Ok(()), 1, pause(0)));
        assert_eq!(asked(&[libc::ENOMEM]), (Ok(()), 2, pause(10)));
        assert_eq!(asked(&[libc::EBUSY, libc::ENOMEM, libc::EAGAIN]), (Ok(()), 4, pause(70)));
        assert_eq!(asked(&[libc::EPERM]), (Err(Some(libc::EPERM)), 1, pause(0)));
        assert_eq!(asked(&[libc::ENOMEM, libc::EINVAL]), (Err(Some(libc::EINVAL)), 2, pause(10)));
        let for_ever = [libc::ENOMEM; 9];
        assert_eq!(asked(&for_ever), (Err(Some(libc::ENOMEM)), TRIES as usize, pause(310)));
    }
}
