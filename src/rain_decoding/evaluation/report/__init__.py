def write_report(run, summary):
    pass
