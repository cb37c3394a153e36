/* Prints the Landlock level of the kernel, asked of the kernel itself. */
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#endif

int main(void) {
	/* LANDLOCK_CREATE_RULESET_VERSION */
	printf("%ld\n", syscall(SYS_landlock_create_ruleset, NULL, 0, 1U));
	return 0;
}
