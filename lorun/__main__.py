from lorun.cli import main

main()
