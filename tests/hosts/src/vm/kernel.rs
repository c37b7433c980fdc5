//! Debian's cloud kernel: fetched by apt, uncompressed once so that no guest has to, and the small
//! first root file system that finds a guest's disk.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};

use super::{cpio::Archive, script};

/// What a guest needs before it can read its disk, in the order of loading.
const MODULES: [&str; 6] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_blk",
];

const FETCH_WITHIN: Duration = Duration::from_secs(600);

/// Unpacks the newest kernel package of the release into `$1/kernel`.
const FETCH: &str = "
cd /root
apt-get -qq update -o APT::Update::Error-Mode=any
package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: //p' | head -n1)
apt-get -qq download -o APT::Sandbox::User=root \"$package\"
rm -rf \"$1/kernel\"
dpkg-deb -x linux-image-*.deb \"$1/kernel\"
cp \"$1\"/kernel/boot/vmlinuz-* \"$1/vmlinuz\"
cp /bin/busybox \"$1/busybox\"
";

/// Leaves `vmlinux`, `initrd` and `kernel/` (the package's files) in `dir`.
pub(super) fn fetch(dir: &Path) -> Result<()> {
    script(FETCH, &[dir], &[], FETCH_WITHIN).context("fetch a kernel")?;
    uncompress(dir).context("uncompress the kernel")?;
    let archive = first_root(dir).context("make the first root file system")?;
    write(&dir.join("initrd"), &archive)
}

/// The kernel's own archive inside `vmlinuz`, by the offsets of the x86 boot protocol (2.08 and later).
fn uncompress(dir: &Path) -> Result<()> {
    let image = fs::read(dir.join("vmlinuz")).context("read it")?;
    let payload = payload(&image).context("its boot header is damaged")?;
    let unpack = match payload {
        [0x02, 0x21, 0x4c, 0x18, ..] => "lz4 -dc",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd -dc",
        [0xfd, b'7', b'z', ..] => "xz -dc --single-stream",
        [0x1f, 0x8b, ..] => "gzip -dc",
        [a, b, c, ..] => bail!("unknown compression {a:02x}{b:02x}{c:02x}"),
        _ => bail!("it is empty"),
    };
    write(&dir.join("payload"), payload)?;
    // Four bytes of length follow the archive; each of the programs complains of them at the end.
    let unpack = format!("{unpack} < \"$1/payload\" > \"$1/vmlinux\" || true; rm \"$1/payload\"");
    script(&unpack, &[dir], &[], FETCH_WITHIN)?;
    let head = fs::read(dir.join("vmlinux")).context("read the result")?;
    if !head.starts_with(b"\x7fELF") {
        bail!("`{unpack}` gave no kernel");
    }
    Ok(())
}

fn payload(image: &[u8]) -> Option<&[u8]> {
    let word = |at: usize| {
        let bytes = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let start = (usize::from(*image.get(0x1f1)?) + 1) * 512 + word(0x248)?;
    image.get(start..start + word(0x24c)?)
}

fn first_root(dir: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "proc", "root", "modules"] {
        archive.folder(folder);
    }
    let busybox = fs::read(dir.join("busybox")).context("read busybox")?;
    archive.program("bin/busybox", &busybox);
    archive.program("init", include_bytes!("init.sh"));
    let drivers = modules_dir(dir)?.join("kernel/drivers");
    for name in MODULES {
        let folder = if name == "virtio_blk" { "block" } else { "virtio" };
        let file = drivers.join(folder).join(format!("{name}.ko"));
        let module = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
        archive.program(&format!("modules/{name}.ko"), &module);
    }
    Ok(archive.finish())
}

fn modules_dir(dir: &Path) -> Result<std::path::PathBuf> {
    let all = fs::read_dir(dir.join("kernel/lib/modules")).context("list kernel modules")?;
    let first = all.flatten().next().context("the package has no modules")?;
    Ok(first.path())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_is_where_the_boot_header_says() {
        let mut image = vec![0_u8; 2048];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248] = 16;
        image[0x24c] = 3;
        image[1040..1043].copy_from_slice(b"abc");
        assert_eq!(payload(&image), Some(&b"abc"[..]));
        image[0x24d] = 0xff;
        assert_eq!(payload(&image), None, "longer than the file");
    }
}
