"""Frame models judged by photographs that they have not seen: held-out views, figures, pictures to look at."""
