/*
 * What a hijacked program would try, one attack for each name. Each is really made.
 *
 *   attacks                the names
 *   attacks PORT NAME...   one line for each: "NAME refused", "NAME errno N, not the wall's", or "NAME WENT THROUGH"
 *
 * PORT is that of a server on the host's loopback. An errno that is not the wall's (there is no such file, no such process,
 * nothing listens) shows nothing. Ends with the number of attacks that were not refused by their wall.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Each gives 0 or more when it went through, and -1 with errno when it was refused. */

static long shadow(void) { return open("/etc/shadow", O_RDONLY); }
static long write_usr(void) { return open("/usr/bin/volary-was-here", O_WRONLY | O_CREAT, 0755); }
static long write_root(void) { return open("/volary-was-here", O_WRONLY | O_CREAT, 0644); }
static long environ_of_1(void) {
	char byte;
	int fd = open("/proc/1/environ", O_RDONLY);
	return fd < 0 ? -1 : read(fd, &byte, 1);
}
static long memory_of_1(void) { return open("/proc/1/mem", O_RDWR); }
static long trace_1(void) { return ptrace(PTRACE_ATTACH, 1, NULL, NULL); }
static long read_process_1(void) {
	char bytes[8];
	struct { void *base; size_t len; } local = {bytes, sizeof bytes}, remote = {(void *)0x400000, sizeof bytes};
	return syscall(SYS_process_vm_readv, 1, &local, 1, &remote, 1, 0);
}
static long sysctl_core(void) { return open("/proc/sys/kernel/core_pattern", O_WRONLY); }
static long sysrq(void) { return open("/proc/sysrq-trigger", O_WRONLY); }
static long user_namespace(void) { return unshare(CLONE_NEWUSER); }
static long mount_namespace(void) { return unshare(CLONE_NEWNS); }
static long mount_tmpfs(void) { return mount("none", "/tmp", "tmpfs", 0, NULL); }
static long raw_socket(void) { return socket(AF_INET, SOCK_RAW, IPPROTO_ICMP); }
static long packet_socket(void) { return socket(AF_PACKET, SOCK_RAW, 0); }
static long netlink_socket(void) { return socket(AF_NETLINK, SOCK_RAW, 0); }
static long reach(const char *address, int port) {
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	inet_pton(AF_INET, address, &to.sin_addr);
	return fd < 0 ? -1 : connect(fd, (struct sockaddr *)&to, sizeof to);
}
static int console;
static long host_console(void) { return reach("127.0.0.1", console); }
static long take_the_door(void) {
	/* The gateway's own port: a rival listener in the box. */
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(8080), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
	return bind(fd, (struct sockaddr *)&at, sizeof at) < 0 ? -1 : listen(fd, 1);
}
static long io_uring(void) {
	char parameters[120] = {0};
	return syscall(SYS_io_uring_setup, 4, parameters);
}
static long bpf(void) {
	char attributes[120] = {0};
	return syscall(SYS_bpf, 5, attributes, sizeof attributes);
}
static long perf(void) {
	char attributes[112] = {0};
	return syscall(SYS_perf_event_open, attributes, 0, -1, -1, 0);
}
static long keyring(void) { return syscall(SYS_add_key, "user", "volary", "x", 1, -3); }
static long userfault(void) { return syscall(SYS_userfaultfd, 1); }
static long memory_file(void) { return syscall(SYS_memfd_create, "x", 0); }
static long personality_exec(void) { return syscall(SYS_personality, 0x0400000); }
static long module(void) { return syscall(SYS_init_module, "", 0, ""); }
static long reboot_it(void) { return syscall(SYS_reboot, 0xfee1dead, 672274793, 0, NULL); }
static long set_clock(void) { return syscall(SYS_settimeofday, NULL, NULL); }
static long become_root(void) { return setuid(0); }
static long device(void) { return mknod("/tmp/kmsg", S_IFCHR | 0600, makedev(1, 11)); }
static long kernel_log(void) { return open("/dev/kmsg", O_RDONLY); }
static long leave_root(void) { return chroot("/tmp"); }
static long other_netns(void) {
	int fd = open("/proc/1/ns/net", O_RDONLY);
	return fd < 0 ? -1 : setns(fd, CLONE_NEWNET);
}

/* Each with its wall's answer. What is not in the box's tree, or is hidden there, is not there (ENOENT); what of it is
   mounted read-only says so; a loopback of the box's own has no such server; the rest is seccomp's and Landlock's. */
static const struct { const char *name; long (*act)(void); int errnos[2]; } attacks[] = {
	{"shadow", shadow, {ENOENT}}, {"write-usr", write_usr, {EROFS}}, {"write-root", write_root, {EROFS}},
	{"environ-of-1", environ_of_1, {ENOENT}}, {"memory-of-1", memory_of_1, {ENOENT}}, {"trace-1", trace_1, {EPERM}},
	{"read-process-1", read_process_1, {EPERM}}, {"sysctl-core", sysctl_core, {EACCES, EROFS}},
	{"sysrq", sysrq, {EACCES, ENOENT}}, {"user-namespace", user_namespace, {EPERM}},
	{"mount-namespace", mount_namespace, {EPERM}}, {"mount-tmpfs", mount_tmpfs, {EPERM}},
	{"raw-socket", raw_socket, {EPERM}}, {"packet-socket", packet_socket, {EPERM}},
	{"netlink-socket", netlink_socket, {EPERM}}, {"host-console", host_console, {ECONNREFUSED}},
	{"take-the-door", take_the_door, {EADDRINUSE}}, {"io-uring", io_uring, {EPERM}}, {"bpf", bpf, {EPERM}},
	{"perf", perf, {EPERM}}, {"keyring", keyring, {EPERM}}, {"userfault", userfault, {EPERM}},
	{"memory-file", memory_file, {EPERM}}, {"personality-exec", personality_exec, {EPERM}}, {"module", module, {EPERM}},
	{"reboot", reboot_it, {EPERM}}, {"set-clock", set_clock, {EPERM}}, {"become-root", become_root, {EPERM}},
	{"device", device, {EACCES}}, {"kernel-log", kernel_log, {ENOENT}}, {"leave-root", leave_root, {EPERM}},
	{"other-netns", other_netns, {ENOENT}},
};

int main(int count, char **names) {
	int held = 0, wanted = count - 2;
	for (size_t a = 0; count == 1 && a < sizeof attacks / sizeof *attacks; a++) puts(attacks[a].name);
	if (count == 1) return 0;
	console = atoi(names[1]);
	for (int n = 2; n < count; n++) {
		int known = 0;
		for (size_t a = 0; a < sizeof attacks / sizeof *attacks; a++) {
			if (strcmp(names[n], attacks[a].name) != 0) continue;
			known = 1;
			errno = 0;
			if (attacks[a].act() >= 0) {
				printf("%s WENT THROUGH\n", names[n]);
			} else if (errno == attacks[a].errnos[0] || errno == attacks[a].errnos[1]) {
				printf("%s refused\n", names[n]);
				held++;
			} else {
				printf("%s errno %d %s, not the wall's\n", names[n], errno, strerror(errno));
			}
			fflush(stdout);
		}
		if (!known) {
			printf("%s is no attack\n", names[n]);
			return 99;
		}
	}
	return wanted - held;
}
