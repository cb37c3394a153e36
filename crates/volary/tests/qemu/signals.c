/*
 * Sends process 1 every signal there is, to the process and to its thread. Twice, as what handles the first of a kind may
 * leave the second to the kernel.
 *
 *   signals sent|refused   what each must meet: Landlock knows signals from level 6 on
 *
 * Ends with 0 when all met it. That process 1 takes no harm is shown by whoever reads this end: process 1 tells it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int wrong;

static void meets(const char *how, int signal, long answer, int expected) {
	int met = answer == 0 ? 0 : errno;
	if (met == expected) return;
	printf("signal %d by %s: %s\n", signal, how, met ? strerror(met) : "sent");
	wrong++;
}

int main(int count, char **words) {
	if (count != 2) return 99;
	int expected = strcmp(words[1], "sent") == 0 ? 0 : EPERM;
	for (int round = 0; round < 2; round++)
		for (int signal = 1; signal <= 64; signal++) {
			meets("kill", signal, kill(1, signal), expected);
			meets("tgkill", signal, syscall(SYS_tgkill, 1, 1, signal), expected);
		}
	printf("%d wrong\n", wrong);
	return wrong != 0;
}
