// Package quota limits what a directory and all that is made in it may take on its file
// system, by a project quota: ext4 mounted with prjquota, or xfs mounted with pquota.
//
// A directory that is assigned has a project of its own, whose id is a random one that
// nothing uses; what is made below inherits it, and the kernel counts the blocks of the
// project. Nothing is remembered beside the file system: the directory tells its project.
//
// Invariants: a directory is assigned while it is empty, so that all below belongs to one
// project (a rename from one project to another is EXDEV, which overlayfs can't do with).
// Whoever writes above the limit gets EDQUOT (ext4) or ENOSPC (xfs), overlayfs too, which
// gives up CAP_SYS_RESOURCE, before which quotas do not hold.
//
// The calls are those of quotactl_fd(2) (since Linux 5.14) and ioctl_xfs_fsgetxattr(2).
package quota
