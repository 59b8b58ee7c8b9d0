//! Closing what a careless parent left open.
//!
//! Everything that this program opens itself closes on exec; what it inherited beyond the three standard streams
//! would otherwise live on in every program that a step starts (a web server's socket, for one).

use std::os::fd::RawFd;

/// Closes every inherited descriptor from 3 on.
///
/// To be called first in `main`, before anything is opened.
#[expect(
    unsafe_code,
    reason = "a descriptor that nobody in this process owns can only be closed by its number"
)]
pub fn close_inherited() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    // Collected first: the listing has a descriptor of its own, which is closed with it.
    let inherited: Vec<RawFd> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    for number in inherited {
        if std::fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_ok() {
            // SAFETY: called before this process opened anything, so no value of this program owns the number. The
            // listing's own descriptor is gone by now, which the look just before makes sure of.
            unsafe { rustix::io::close(number) };
        }
    }
}
